// The vendor folder is filled by make and comes without types: those of the npm packages stand in for it.
declare module "*/vendor/marked.esm.js" {
  export * from "marked";
}
declare module "*/vendor/purify.es.mjs" {
  export { default } from "dompurify";
}
declare module "*/vendor/eventsource-parser.js" {
  export * from "eventsource-parser";
}
