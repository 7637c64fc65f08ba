package httpidem

import (
	"strings"
)

// addToList adds names to a header field that is a list. It keeps the names that are in the list
// already, and adds none twice.
func addToList(h map[string][]string, field string, names ...string) {
	for _, name := range names {
		if !inList(h[field], name) {
			h[field] = append(h[field], name)
		}
	}
}

// inList reports whether the values of a header field that is a list have a name. An asterisk is
// not a wildcard in every such field, so it is compared like a name.
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
