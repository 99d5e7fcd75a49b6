//! The demo server `math`: sums and products.

use rmcp::handler::server::wrapper::Parameters;
use rmcp::{ServerHandler, tool, tool_handler, tool_router};
use schemars::JsonSchema;
use serde::Deserialize;

/// A server without any state.
#[derive(Clone)]
pub(super) struct Math;

#[derive(Deserialize, JsonSchema)]
struct Pair {
    /// The first number.
    a: f64,
    /// The second number.
    b: f64,
}

#[tool_router]
impl Math {
    #[tool(description = "Adds two numbers and returns the sum.", annotations(read_only_hint = true))]
    fn add(Parameters(Pair { a, b }): Parameters<Pair>) -> String {
        number(a + b)
    }

    #[tool(description = "Multiplies two numbers and returns the product.", annotations(read_only_hint = true))]
    fn multiply(Parameters(Pair { a, b }): Parameters<Pair>) -> String {
        number(a * b)
    }
}

#[tool_handler(
    name = "ostler-demo-math",
    instructions = "A demonstration server of Ostler: it adds and multiplies two numbers."
)]
impl ServerHandler for Math {}

/// A number as people write it: whole numbers without a point.
fn number(number: f64) -> String {
    format!("{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_have_no_point() {
        let multiply = |a, b| Math::multiply(Parameters(Pair { a, b }));
        let add = |a, b| Math::add(Parameters(Pair { a, b }));
        assert_eq!(multiply(17.0, 23.0), "391");
        assert_eq!(multiply(-0.5, 3.0), "-1.5");
        assert_eq!(add(0.5, 1.0), "1.5");
        assert_eq!(add(2.0, 2.0), "4");
    }
}
