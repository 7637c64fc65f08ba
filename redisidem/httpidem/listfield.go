package httpidem

import (
	"slices"
	"strings"
)

// addToList adds names to a header field that is a list. A name that is in the list already is not
// added again.
func addToList(h map[string][]string, field string, names ...string) {
	lines := h[field]
	for i, name := range names {
		if !inList(lines, name) {
			lines = append(slices.Grow(lines, len(names)-i), name)
			h[field] = lines
		}
	}
}

// inList reports whether a header field that is a list contains a name. An asterisk is compared
// like a name, since it is not a wildcard in every field.
func inList(lines []string, name string) bool {
	for _, line := range lines {
		for entry := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.Trim(entry, " \t"), name) {
				return true
			}
		}
	}
	return false
}
