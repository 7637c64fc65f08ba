package result

import (
	"net/url"
	"strings"
)

// Words returns the arguments of a command without the passwords in their URLs, because runs are
// shared.
func Words(args []string) []string {
	words := make([]string, 0, len(args))
	for _, arg := range args {
		flag, value, found := strings.Cut(arg, "=")
		if !found || !strings.HasPrefix(flag, "-") {
			flag, value = "", arg
		} else {
			flag += "="
		}
		if strings.Contains(value, "://") {
			value = withoutPassword(value)
		}
		words = append(words, flag+value)
	}
	return words
}

// withoutPassword returns a URL with its password masked. It returns less of a URL that cannot be
// parsed.
func withoutPassword(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		scheme, _, _ := strings.Cut(text, "://")
		return scheme + "://…"
	}
	query := u.Query()
	for name := range query {
		if strings.Contains(strings.ToLower(name), "pass") {
			query.Set(name, "xxxxx")
			u.RawQuery = query.Encode()
		}
	}
	return u.Redacted()
}
