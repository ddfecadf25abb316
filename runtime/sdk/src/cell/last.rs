//! Shows the last expression of a cell. The generated code of a cell ends with
//!
//! ```text
//! (&&&::lockstep::cell::Shown(::lockstep::cell::Last(&(EXPRESSION)).evcxr_display())).show(__cell);
//! ```
//!
//! Method lookup for the first call finds, in this order:
//!
//! 1. [`DisplayRich`] on [`Last`] itself: the [`Bundle`] from the type's [`Show`];
//! 2. behind `Last`, a method `evcxr_display(&self)` of the type, or of a trait in scope: evcxr's convention, by which a
//!    value prints itself to stdout, each representation between the lines `EVCXR_BEGIN_CONTENT <media type>` and
//!    `EVCXR_END_CONTENT`, which the kernel removes from the text;
//! 3. [`DisplayElse`] on the reference in `Last`: the unchanged value.
//!
//! The second lookup distinguishes the results: a bundle; a value that is shown with [`Debug`] or by its type; or anything else,
//! which has shown itself already.

use std::any::type_name;
use std::fmt::Debug;
use std::ops::Deref;

use super::Cell;
use crate::show::{self, Bundle, Show};

/// The last expression of a cell. It derives nothing: a trait that is implemented for, say, all `Debug` types is meant for the
/// value and must not apply here.
pub struct Last<'a, T: ?Sized>(pub &'a T);

impl<'a, T: ?Sized> Deref for Last<'a, T> {
    type Target = &'a T;

    fn deref(&self) -> &&'a T {
        &self.0
    }
}

/// Shows a value that implements [`Show`].
pub trait DisplayRich {
    /// Returns the bundle to show.
    fn evcxr_display(&self) -> Bundle;
}

impl<T: Show + ?Sized> DisplayRich for Last<'_, T> {
    fn evcxr_display(&self) -> Bundle {
        self.0.show()
    }
}

/// A value without a display of its own.
#[derive(Debug)]
pub struct Plain<'a, T: ?Sized>(&'a T);

/// Passes on any other value.
pub trait DisplayElse<'a> {
    /// The type of the value.
    type Value: ?Sized;
    /// Returns the value.
    fn evcxr_display(&self) -> Plain<'a, Self::Value>;
}

impl<'a, T: ?Sized> DisplayElse<'a> for &'a T {
    type Value = T;

    fn evcxr_display(&self) -> Plain<'a, T> {
        Plain(self)
    }
}

/// The result of `evcxr_display`.
#[derive(Debug)]
pub struct Shown<R>(pub R);

impl Shown<Bundle> {
    /// Sets it as the cell's result.
    pub fn show(&self, cell: &mut Cell) {
        cell.show(self.0.clone());
    }
}

/// Shows a value with [`Debug`].
pub trait ShowDebug {
    /// Sets it as the cell's result.
    fn show(&self, cell: &mut Cell);
}

impl<T: Debug + ?Sized> ShowDebug for &&Shown<Plain<'_, T>> {
    fn show(&self, cell: &mut Cell) {
        cell.show(show::debug(&self.0.0));
    }
}

/// Shows a value's type.
pub trait ShowType {
    /// Sets it as the cell's result.
    fn show(&self, cell: &mut Cell);
}

impl<T: ?Sized> ShowType for &Shown<Plain<'_, T>> {
    fn show(&self, cell: &mut Cell) {
        show_type(cell, type_name::<T>());
    }
}

fn show_type(cell: &mut Cell, type_name: &str) {
    cell.show(Bundle::text(format!("a value of type {type_name}")));
}

/// Shows nothing: the value has printed itself.
pub trait ShowNothing {
    /// Leaves the cell without a result.
    fn show(&self, cell: &mut Cell);
}

impl<R> ShowNothing for Shown<R> {
    fn show(&self, _: &mut Cell) {}
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::fmt::Debug;

    use super::super::by_type::*;
    use super::super::{Bundle, Cell, Show};

    thread_local! {
        static PRINTED: RefCell<String> = const { RefCell::new(String::new()) };
    }

    fn print(text: impl Into<String>) {
        PRINTED.set(text.into());
    }

    /// Evaluates the end of a cell for an expression. Returns the text printed by evcxr's convention, and the result.
    macro_rules! shown {
        ($expression:expr) => {{
            let __cell = &mut Cell::default();
            (&&&crate::cell::Shown(crate::cell::Last(&($expression)).evcxr_display())).show(__cell);
            let result = __cell.result.take();
            (PRINTED.take(), result.map(|bundle| bundle.data["text/plain"].clone()))
        }};
    }

    /// Nothing is printed, and the result is this.
    fn result(text: &str) -> (String, Option<serde_json::Value>) {
        (String::new(), Some(text.into()))
    }

    fn printed(text: &str) -> (String, Option<serde_json::Value>) {
        (text.into(), None)
    }

    #[derive(Debug)]
    struct Chart<'a, T>(&'a [T]);

    impl<T: Debug> Chart<'_, T> {
        fn evcxr_display(&self) {
            print(format!("a chart of {:?}", self.0));
        }
    }

    /// A trait like those of some crates.
    trait Displayed {
        fn evcxr_display(&self) -> &Self;
    }

    #[derive(Debug)]
    struct Matrix;

    impl Displayed for Matrix {
        fn evcxr_display(&self) -> &Self {
            print("a matrix");
            self
        }
    }

    #[derive(Debug)]
    struct Both;

    impl Both {
        #[expect(dead_code, reason = "it shows itself the other way")]
        fn evcxr_display(&self) {
            print("not this");
        }
    }

    impl Show for Both {
        fn show(&self) -> Bundle {
            Bundle::text("rich")
        }
    }

    struct Opaque;

    #[test]
    fn a_value_with_evcxrs_method_prints_itself() {
        assert_eq!(shown!(Chart(&[1, 2])), printed("a chart of [1, 2]"));
        let chart = Chart(&["x"]);
        assert_eq!(shown!(chart), printed("a chart of [\"x\"]"));
        assert_eq!(shown!(Matrix), printed("a matrix"));
        assert_eq!(shown!(chart), printed("a chart of [\"x\"]"), "it was not moved");
    }

    #[test]
    fn a_trait_for_all_that_is_debug_is_for_the_value() {
        trait Report {
            fn evcxr_display(&self);
        }

        impl<T: Debug> Report for T {
            fn evcxr_display(&self) {
                print(format!("a report of {self:?}"));
            }
        }

        assert_eq!(shown!(1), printed("a report of 1"));
        assert_eq!(shown!(Bundle::text("bundle")), result("bundle"));
    }

    #[test]
    fn show_goes_first() {
        assert_eq!(shown!(Both), result("rich"));
        assert_eq!(shown!(&Both), result("rich"));
        assert_eq!(shown!(Bundle::text("bundle")), result("bundle"));
        assert_eq!(shown!(()), ("".into(), None));
    }

    #[test]
    fn every_other_value_is_shown_as_debug_does_or_by_its_type() {
        assert_eq!(shown!(1 + 1), result("2"));
        assert_eq!(shown!(0.5), result("0.5"));
        assert_eq!(shown!("text"), result("\"text\""));
        assert_eq!(shown!(*"text"), result("\"text\""));
        assert_eq!(shown!([1, 2][..1]), result("[1]"));
        assert_eq!(shown!([1].iter().map(|n| n * 2).collect::<Vec<_>>()), result("[2]"));
        assert_eq!(shown!(None::<i32>), result("None"));
        assert_eq!(shown!(Box::new(1) as Box<dyn Debug>), result("1"));
        assert_eq!(shown!(Some(Matrix)), result("Some(Matrix)"));
        let opaque = concat!("a value of type ", module_path!(), "::Opaque");
        assert_eq!(shown!(Opaque), result(opaque));
        assert_eq!(shown!(&Opaque), result(opaque));
    }
}
