:type x
:input rows penguins.csv
let s = "unfinished