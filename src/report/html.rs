//! A report as one HTML page: no script, nothing to fetch, every text escaped.

use super::page::{Body, Page};
use super::words::Language;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;\
    padding:0 1rem;color:#1a1a1a}h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}\
    dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1.5rem}dt{font-weight:600}\
    dd{margin:0}table{border-collapse:collapse}td{padding:.15rem .9rem .15rem 0;vertical-align:top}\
    td:first-child{white-space:nowrap;font-variant-numeric:tabular-nums}\
    pre{background:#f4f4f4;padding:1rem;overflow-x:auto}p{white-space:pre-wrap}";

pub(super) fn write(page: &Page, language: Language) -> String {
    let title = escape(&page.title);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"{}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n<dl>\n",
        language.tag()
    );
    for (word, text) in &page.pairs {
        out.push_str(&format!("<dt>{}</dt><dd>{}</dd>\n", escape(word), escape(text)));
    }
    out.push_str("</dl>\n");
    for section in &page.sections {
        out.push_str(&format!("<h2>{}</h2>\n", escape(&section.heading)));
        match &section.body {
            Body::Table(rows) => table(&mut out, rows),
            Body::Verbatim(lines) => {
                out.push_str(&format!("<pre>{}</pre>\n", escape(&lines.join("\n"))));
            }
            Body::Prose(text) => out.push_str(&format!("<p>{}</p>\n", escape(text))),
        }
    }
    out.push_str("</body>\n</html>\n");
    out
}

fn table(out: &mut String, rows: &[Vec<String>]) {
    out.push_str("<table>\n");
    for row in rows {
        let cells: String = row.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
        out.push_str(&format!("<tr>{cells}</tr>\n"));
    }
    out.push_str("</table>\n");
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
