//! The table of tools.

use super::text::one_line;
use super::{Paint, Style};
use crate::http::dto::ToolDto;

/// The longest description in the table; `--json` has all of it.
const DESCRIPTION: usize = 100;

/// One row a tool: its name and the first words of what it does.
pub(crate) fn table(tools: &[ToolDto], style: Style) -> String {
    let rows = tools.iter().map(|tool| {
        let description = tool.description.as_deref().or(tool.title.as_deref()).unwrap_or_default();
        let first = description.trim().lines().next().unwrap_or_default();
        vec![tool.name.clone(), one_line(first, DESCRIPTION)]
    });
    let mut lines = style.table(&["NAME", "WHAT IT DOES"], rows).into_iter();
    let header = lines.next().map(|header| style.paint(Paint::Faint, &header));
    header.into_iter().chain(lines).map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fake::tool;

    #[test]
    fn a_tool_is_its_name_and_its_first_line() {
        insta::assert_snapshot!(table(&[tool("math__add"), tool("notes__save_note")], Style::Plain), @r#"
NAME              WHAT IT DOES
math__add         Does add.
notes__save_note  Does save_note.
"#);
    }
}
