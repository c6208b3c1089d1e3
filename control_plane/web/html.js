// Elements as they look in HTML. What stands in ${} becomes text or an attribute, never markup.
import { h } from "preact";
import htm from "htm";

export const html = htm.bind(h);
