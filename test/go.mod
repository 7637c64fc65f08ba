module github.com/redisidem/redisidem/test

go 1.26.0

replace github.com/redisidem/redisidem => ../
