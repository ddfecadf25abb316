use std::ops::{Add, BitAnd, BitOr, Div, Mul, Neg, Not, Rem, Sub};

/// A value for each row, computed from columns: for [`Table::filter`](super::Table::filter) and [`Table::with`](super::Table::with).
///
/// ```
/// use lockstep::prelude::*;
/// use lockstep::table::*;
///
/// let animals = Table::new([("mass", vec![Some(3.5), None, Some(4.5)])])?.with("name", vec!["Ada", "Bo", "Cy"])?;
/// let heavy = animals.filter(col("mass").gt(4) & col("name").is_in(["Bo", "Cy"]))?;
/// assert_eq!(heavy.str("name")?.value(0), "Cy");
/// let grams = animals.with("grams", col("mass") * 1000)?;
/// assert_eq!(grams.f64("grams")?.value(0), 3500.0);
/// # Ok::<(), lockstep::Error>(())
/// ```
///
/// - What is computed with a null is null, as in SQL. A comparison with a null is null, and a filter keeps only the rows where its condition is
///   true: use [`is_null`](Self::is_null). `false & null` is false, and `true | null` is true.
/// - Integers stay integers in `+`, `-`, `*` and `%`: `Int64`, or `UInt64` for a column of that type with another or with a literal. An overflow is
///   an error, and so is the remainder by 0. `%` has the sign of its left side. `/` is always a `Float64`; the quotient by 0 is infinite or NaN, as
///   it is for other floats.
/// - An integer and a float are compared exactly. `-0.0` equals `0.0`. NaN equals NaN and is greater than all other numbers.
/// - Dates and times are compared with each other, or with text such as `"2013-06-01"` or `"2013-06-01T12:30:00"`. A time with a zone needs a
///   text with a zone, such as `"2013-06-01T12:30:00Z"`.
/// - Values of other pairs of types are not converted: use [`Table::cast`](super::Table::cast).
#[derive(Clone, Debug)]
pub struct Expr(pub(super) Node);

#[derive(Clone, Debug)]
pub(super) enum Node {
    Column(String),
    Literal(Literal),
    Arithmetic(Arithmetic, Box<[Expr; 2]>),
    Negative(Box<Expr>),
    Compare(Compare, Box<[Expr; 2]>),
    And(Box<[Expr; 2]>),
    Or(Box<[Expr; 2]>),
    Not(Box<Expr>),
    IsNull(Box<Expr>),
    FillNull(Box<[Expr; 2]>),
    IsIn(Box<Expr>, Vec<Expr>),
    Text(Match, Box<Expr>, String),
}

#[derive(Clone, PartialEq, Debug)]
pub(super) enum Literal {
    Boolean(bool),
    Integer(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Match {
    Contains,
    StartsWith,
}

/// The values of a column.
pub fn col(name: impl Into<String>) -> Expr {
    Expr(Node::Column(name.into()))
}

/// The same value in each row: a boolean, a number or text.
pub fn lit(value: impl Into<Expr>) -> Expr {
    value.into()
}

macro_rules! literals {
    ($($literal:ident: $($of:ty),+;)+) => {$($(
        impl From<$of> for Expr {
            fn from(value: $of) -> Self {
                Self(Node::Literal(Literal::$literal(value.into())))
            }
        }
    )+)+};
}

literals! {
    Boolean: bool;
    Integer: i8, i16, i32, i64, u8, u16, u32;
    Unsigned: u64;
    Float: f32, f64;
    Text: &str, String, &String;
}

macro_rules! operators {
    ($($operator:ident::$method:ident => $node:expr;)+) => {$(
        impl<E: Into<Expr>> $operator<E> for Expr {
            type Output = Self;

            fn $method(self, other: E) -> Self {
                let node: fn(Box<[Self; 2]>) -> Node = $node;
                Self(node(Box::new([self, other.into()])))
            }
        }
    )+};
}

operators! {
    Add::add => |sides| Node::Arithmetic(Arithmetic::Add, sides);
    Sub::sub => |sides| Node::Arithmetic(Arithmetic::Subtract, sides);
    Mul::mul => |sides| Node::Arithmetic(Arithmetic::Multiply, sides);
    Div::div => |sides| Node::Arithmetic(Arithmetic::Divide, sides);
    Rem::rem => |sides| Node::Arithmetic(Arithmetic::Remainder, sides);
    BitAnd::bitand => Node::And;
    BitOr::bitor => Node::Or;
}

macro_rules! operators_of {
    ($($of:ty: $($operator:ident::$method:ident)+;)+) => {$($(
        impl $operator<Expr> for $of {
            type Output = Expr;

            fn $method(self, other: Expr) -> Expr {
                Expr::from(self).$method(other)
            }
        }
    )+)+};
}

operators_of! {
    i32: Add::add Sub::sub Mul::mul Div::div Rem::rem;
    i64: Add::add Sub::sub Mul::mul Div::div Rem::rem;
    f64: Add::add Sub::sub Mul::mul Div::div Rem::rem;
}

impl Neg for Expr {
    type Output = Self;

    fn neg(self) -> Self {
        Self(Node::Negative(Box::new(self)))
    }
}

impl Not for Expr {
    type Output = Self;

    fn not(self) -> Self {
        Self(Node::Not(Box::new(self)))
    }
}

impl Expr {
    fn compare(self, how: Compare, other: impl Into<Self>) -> Self {
        Self(Node::Compare(how, Box::new([self, other.into()])))
    }

    /// Whether it is equal to the other.
    pub fn eq(self, other: impl Into<Self>) -> Self {
        self.compare(Compare::Equal, other)
    }

    /// Whether it differs from the other.
    pub fn ne(self, other: impl Into<Self>) -> Self {
        self.compare(Compare::NotEqual, other)
    }

    /// Whether it is less than the other.
    pub fn lt(self, other: impl Into<Self>) -> Self {
        self.compare(Compare::Less, other)
    }

    /// Whether it is less than the other or equal.
    pub fn le(self, other: impl Into<Self>) -> Self {
        self.compare(Compare::LessOrEqual, other)
    }

    /// Whether it is greater than the other.
    pub fn gt(self, other: impl Into<Self>) -> Self {
        self.compare(Compare::Greater, other)
    }

    /// Whether it is greater than the other or equal.
    pub fn ge(self, other: impl Into<Self>) -> Self {
        self.compare(Compare::GreaterOrEqual, other)
    }

    /// Whether it is null. This is never null itself.
    pub fn is_null(self) -> Self {
        Self(Node::IsNull(Box::new(self)))
    }

    /// Whether it is not null.
    pub fn is_not_null(self) -> Self {
        !self.is_null()
    }

    /// The value, or the other one where it is null.
    pub fn fill_null(self, other: impl Into<Self>) -> Self {
        Self(Node::FillNull(Box::new([self, other.into()])))
    }

    /// Whether it is equal to one of the values.
    pub fn is_in<E: Into<Self>>(self, values: impl IntoIterator<Item = E>) -> Self {
        Self(Node::IsIn(Box::new(self), values.into_iter().map(Into::into).collect()))
    }

    /// Whether the text contains this part.
    pub fn contains(self, part: &str) -> Self {
        Self(Node::Text(Match::Contains, Box::new(self), part.to_owned()))
    }

    /// Whether the text starts with this part.
    pub fn starts_with(self, part: &str) -> Self {
        Self(Node::Text(Match::StartsWith, Box::new(self), part.to_owned()))
    }
}
