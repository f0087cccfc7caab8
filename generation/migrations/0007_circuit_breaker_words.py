from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("generation", "0006_model_requests")]

    operations = [
        migrations.RenameField("candidatehealth", "strikes", "failures"),
        migrations.RenameField("candidatehealth", "left_alone_until", "cooling_until"),
        migrations.AlterField(
            model_name='candidatehealth',
            name='cooling_until',
            field=models.DateTimeField(blank=True, null=True, verbose_name='cooling down until'),
        ),
        migrations.AlterField(
            model_name='candidatehealth',
            name='failures',
            field=models.PositiveSmallIntegerField(default=0, help_text='The more, the longer it cools down.', verbose_name='failures'),
        ),
        migrations.AlterField(
            model_name='candidatehealth',
            name='probed_until',
            field=models.DateTimeField(blank=True, help_text='One request probes it until then.', null=True, verbose_name='probed until'),
        ),
        migrations.AlterField(
            model_name='generation',
            name='authored_because',
            field=models.CharField(blank=True, choices=[('no_model', 'no model is configured'), ('no_candidate', 'no model was available'), ('budget', "the day's tokens are used up")], max_length=16, verbose_name='authored because'),
        ),
    ]
