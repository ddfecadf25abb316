macro_rules! m { ($x:expr) => { $x } }
struct S { a: u8 }
impl S { fn n(&self) {} }
let s = S { a: m!(1) };
s