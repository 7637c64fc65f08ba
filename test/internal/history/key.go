package history

import (
	"strconv"
	"strings"
)

// KeyOf returns the key in a record's field request: the lengths of scope, key and method, and then
// scope, key, method and path, separated by spaces. It is "" for a text of another form.
func KeyOf(request string) string {
	words := strings.SplitN(request, " ", 4)
	if len(words) < 4 {
		return ""
	}
	scope, err1 := strconv.Atoi(words[0])
	key, err2 := strconv.Atoi(words[1])
	if rest := words[3]; err1 == nil && err2 == nil && scope+1+key <= len(rest) {
		return rest[scope+1 : scope+1+key]
	}
	return ""
}
