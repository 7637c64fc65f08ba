package httpidem

import (
	"strings"
)

// addToList adds names to a header field that is a list. A name that is in the list already is not
// added again.
func addToList(h map[string][]string, field string, names ...string) {
	for _, name := range names {
		if !inList(h[field], name) {
			h[field] = append(h[field], name)
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
