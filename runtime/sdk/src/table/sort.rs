use super::Table;
use super::keys::Keys;
use crate::Result;

/// A column to sort by: a name, in ascending order, or [`desc`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    pub(super) column: String,
    pub(super) descending: bool,
}

impl From<&str> for Order {
    fn from(column: &str) -> Self {
        column.to_owned().into()
    }
}

impl From<&String> for Order {
    fn from(column: &String) -> Self {
        column.clone().into()
    }
}

impl From<String> for Order {
    fn from(column: String) -> Self {
        Self {
            column,
            descending: false,
        }
    }
}

/// The column in descending order.
pub fn desc(column: impl Into<String>) -> Order {
    Order {
        column: column.into(),
        descending: true,
    }
}

impl Table {
    /// Returns the rows sorted by columns: names, for ascending order, or [`desc`].
    ///
    /// Nulls are last in both orders. NaN is greater than all other numbers. Rows that are equal in these columns keep their order.
    ///
    /// ```
    /// use lockstep::prelude::*;
    /// use lockstep::table::*;
    ///
    /// let animals = Table::new([("mass", vec![Some(3.5), None, Some(4.5)])])?.with("name", vec!["Ada", "Bo", "Cy"])?;
    /// let sorted = animals.sort([desc("mass"), "name".into()])?;
    /// assert_eq!(sorted.str("name")?.value(0), "Cy");
    /// # Ok::<(), lockstep::Error>(())
    /// ```
    pub fn sort<O: Into<Order>>(&self, by: impl IntoIterator<Item = O>) -> Result<Self> {
        let by: Vec<Order> = by.into_iter().map(Into::into).collect();
        let keys = Keys::new(self, by.iter().map(|order| (order.column.as_str(), order.descending)))?;
        self.pick(&keys.sorted())
    }
}
