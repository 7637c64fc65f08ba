package console

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"net/url"
	"strings"
)

// visit is one request of a user.
type visit struct {
	w       http.ResponseWriter
	r       *http.Request
	console *Console
	user    User
	costly  bool // it has a place in Console.costly
}

// visit answers a request, if its user may send it.
func (c *Console) visit(w http.ResponseWriter, r *http.Request, show func(*visit) error) {
	v := &visit{w: w, r: r, console: c}
	defer v.endCostly()
	err := c.checkOrigin(r)
	if err == nil {
		err = v.authorize()
	}
	if err == nil {
		err = show(v)
	}
	if err != nil {
		v.fail(err)
	}
}

// authorize sets the user.
func (v *visit) authorize() error {
	u, ok := v.console.cfg.Authorize(v.r)
	switch {
	case !ok:
		if challenge := v.console.cfg.Challenge; challenge != "" {
			v.w.Header().Set("WWW-Authenticate", challenge)
		}
		return errNotAuthenticated
	case u.Role != RoleViewer && u.Role != RoleOperator:
		return errNoRole
	}
	v.user = u
	return nil
}

// mayAct returns an error if the user may not act.
func (v *visit) mayAct() error {
	switch {
	case !v.console.cfg.Write:
		return errReadOnly
	case v.user.Role != RoleOperator || v.user.Name == "":
		return errViewer
	}
	return nil
}

// MayAct reports whether the user may act.
func (v *visit) MayAct() bool { return v.mayAct() == nil }

// maxFormBytes is the size of a form: the targets with their scopes and values, or a body.
const maxFormBytes = 2 << 20

// parseForm reads the form of the request.
func (v *visit) parseForm() error {
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxFormBytes)
	if err := v.r.ParseForm(); err != nil {
		return badInput("The form", "is larger than "+count(maxFormBytes, "byte")+", or not a form")
	}
	return nil
}

// Root is the relative URL of the console's first page.
func (v *visit) Root() string {
	if depth := strings.Count(v.r.URL.Path, "/") - 1; depth > 0 {
		return strings.Repeat("../", depth)
	}
	return "./"
}

// Rights says what the user may do, for the footer.
func (v *visit) Rights() string {
	name := v.user.Name
	if name == "" {
		name = "anonymous"
	}
	rights := v.user.Role.String()
	if !v.console.cfg.Write {
		rights += ", read-only console"
	}
	return shown(name) + " (" + rights + ")"
}

// Known reports whether the user is known. A page for others has no links.
func (v *visit) Known() bool { return v.user.Role != 0 }

// link returns the relative URL of a page.
func (v *visit) link(page string, query url.Values) string {
	link := v.Root() + page
	if len(query) > 0 {
		link += "?" + query.Encode()
	}
	return link
}

// redirect sends the browser to another page. The URL is relative, because the prefix is unknown.
func (v *visit) redirect(link string) {
	v.w.Header().Set("Location", link)
	v.w.WriteHeader(http.StatusSeeOther)
}

// page is what the templates get.
type page struct {
	*visit
	Title   string
	Current string // the item of the navigation
	Version string // of the assets
	Content any
}

// Sub returns the page with another content, for a part of it.
func (p page) Sub(content any) page {
	p.Content = content
	return p
}

//go:embed templates
var templateFiles embed.FS

// templates are the pages, by their names.
var templates = parseTemplates("overview", "find", "keys", "key", "confirm", "results", "purge", "flows", "flowact", "audit", "problem")

func parseTemplates(names ...string) map[string]*template.Template {
	functions := template.FuncMap{"span": span, "clock": clock, "shown": shown, "count": count, "number": number, "rate": rate, "took": took, "after": after, "plain": plain, "ofKey": ofKey}
	all := make(map[string]*template.Template, len(names))
	for _, name := range names {
		t := template.New("layout.html").Funcs(functions).Option("missingkey=error")
		all[name] = template.Must(t.ParseFS(templateFiles, "templates/layout.html", "templates/parts.html", "templates/"+name+".html"))
	}
	return all
}

// render answers with a page.
func (v *visit) render(status int, name, title string, content any) error {
	body, err := v.execute(name, "layout.html", title, content)
	v.endCostly()
	if err != nil {
		return err
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.WriteHeader(status)
	_, _ = v.w.Write(body) // the browser may have left
	return nil
}

// execute returns a page, or a part of it.
func (v *visit) execute(name, part, title string, content any) ([]byte, error) {
	var body bytes.Buffer
	current, _, _ := strings.Cut(strings.Trim(v.r.URL.Path, "/"), "/")
	err := templates[name].ExecuteTemplate(&body, part, page{v, title, current, assetVersion, content})
	return body.Bytes(), err
}
