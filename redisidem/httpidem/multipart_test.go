package httpidem_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// form returns a multipart body of parts, each of which is a disposition, a type and a content.
func form(boundary string, parts ...[3]string) string {
	var b strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&b, "--%s\r\nContent-Disposition: form-data; %s\r\nContent-Type: %s\r\n\r\n%s\r\n", boundary, p[0], p[1], p[2])
	}
	return b.String() + "--" + boundary + "--\r\n"
}

func TestMultipartPartsAreCompared(t *testing.T) {
	t.Parallel()
	sum := func(boundary, body string) string {
		t.Helper()
		r := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: "/"}, Header: http.Header{"Content-Type": {"multipart/form-data; boundary=" + boundary}}}
		s, err := httpidem.FingerprintOf(httpidem.Fingerprint{Func: httpidem.MultipartParts}, r, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	file, note := [3]string{`name="file"; filename="a.txt"`, "text/plain", "content"}, [3]string{`name="note"`, "text/plain", "hello"}
	first := sum("one", form("one", file, note))
	if sum("two", form("two", file, note)) != first {
		t.Error("the boundary counts")
	}
	change := func(p [3]string, i int, text string) [3]string {
		p[i] = text
		return p
	}
	seen := map[string]string{first: "the form"}
	for name, body := range map[string]string{
		"another order":     form("one", note, file),
		"a part less":       form("one", file),
		"no parts":          form("one"),
		"another content":   form("one", change(file, 2, "content."), note),
		"another type":      form("one", change(file, 1, "text/html"), note),
		"another name":      form("one", change(file, 0, `name="file2"; filename="a.txt"`), note),
		"another file name": form("one", change(file, 0, `name="file"; filename="b.txt"`), note),
		"broken off":        strings.TrimSuffix(form("one", file, note), "--one--\r\n"),
		"another boundary":  form("two", file, note),
		"not a form":        "content",
		"a preamble":        "text\r\n" + form("one", file, note),
		"an epilogue":       form("one", file, note) + "text",
		"a part behind":     form("one", file, note) + form("one", note),
		"no parts, text":    form("one") + "text",
		"a look-alike":      "--oneX\r\n" + form("one", file, note),
		"another one":       "--oneY\r\n" + form("one", file, note),
		"--one-":            "--one-\r\n" + form("one", file, note),
		"blanks, a text":    "--one \t.\r\n" + form("one", file, note),
		"an empty line":     "\r\n" + form("one", file, note),
		"line feeds":        strings.ReplaceAll(form("one", file, note), "\r\n", "\n"),
		"one line feed":     strings.Replace(form("one", file, note), "\r\n", "\n", 1),
		"a header's end":    strings.Replace(form("one", file, note), "\r\n\r\n", "\n\n", 1),
		"a header's line":   strings.Replace(form("one", file, note), "\r\nContent-Type", "\nContent-Type", 1),
		"inner look-alike":  form("one", change(file, 2, "content\r\n--oneX"), note),
		"inner line feed":   form("one", change(file, 2, "content\n--one"), note),
		"inner delimiter":   form("one", change(file, 2, "content --one"), note),
		"inner blanks":      form("one", change(file, 2, "content\r\n--one ."), note),
		"inner close":       form("one", change(file, 2, "content\r\n--one--"), note),
		"close with blanks": strings.TrimSuffix(form("one", file, note), "\r\n") + " \r\n",
		"close, line feed":  strings.TrimSuffix(form("one", file, note), "\r\n") + "\n",
		"close, empty line": form("one", file, note) + "\r\n",
		"many parts":        form("one", make([][3]string, 1001)...),
	} {
		s := sum("one", body)
		if other, taken := seen[s]; taken {
			t.Errorf("%s has the fingerprint of %s", name, other)
		}
		seen[s] = name
	}
	// A look-alike of the delimiter may be one for another reader, so the whole body counts.
	for _, inner := range []string{"\r\n--%sX", "\n--%s", "\r--%s", "--%s", "\r\n--%s .", "\r\n--%s--."} {
		one, two := change(file, 2, fmt.Sprintf(inner, "one")), change(file, 2, fmt.Sprintf(inner, "two"))
		if sum("one", form("one", two)) == sum("two", form("two", two)) || sum("one", form("one", one)) == sum("two", form("two", one)) {
			t.Errorf("%q: one of two boundaries is in the body, and the fingerprint is the same", inner)
		}
	}
	long := change(file, 2, strings.Repeat("x", 100_000)+"\r\n\r"+strings.Repeat("\r\n", 50_000))
	if sum("one", form("one", long, note)) != sum("another", form("another", long, note)) {
		t.Error("the boundary of a large form counts")
	}
	// What is not multipart, or breaks off, is compared byte for byte.
	compare(t, httpidem.MultipartParts, "text/plain", pair{form("one", file), form("one", file) + " ", false}, pair{form("one", file), form("one", file), true})
	compare(t, httpidem.MultipartParts, "multipart/form-data", pair{form("one", file), form("two", file), false})
	many := form("one", make([][3]string, 1001)...)
	compare(t, httpidem.MultipartParts, "multipart/form-data; boundary=one", pair{many, many + " ", false})
}
