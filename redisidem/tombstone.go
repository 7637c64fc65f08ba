package redisidem

import "strings"

// A tombstone takes the place of a record that Delete has removed, until the retention ends. It has
// only the field generation, which counts the deleted records of the key. A record that is made in
// its place keeps the field, so that its outbound keys differ from those of the deleted record.

// isTombstone reports whether the field, value, ... list of a record is that of a tombstone.
func isTombstone(pairs []string) bool { return len(pairs) == 2 && pairs[0] == fieldGeneration }

// decodeGeneration reads "generation delete", as the delete script writes it. The name of the
// delete is for the script alone.
func decodeGeneration(s string) (int64, error) {
	generation, _, _ := strings.Cut(s, " ")
	return parseCount(fieldGeneration, generation)
}
