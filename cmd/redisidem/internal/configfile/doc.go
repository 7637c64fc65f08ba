// Package configfile reads a YAML file into a Go struct. It is strict: a field that the struct does
// not have, a value of another type and a field without a value are errors. Each error names the
// file, the line, the column and the field.
package configfile
