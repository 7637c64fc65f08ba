package console

import (
	"net/http"

	"github.com/redisidem/redisidem/redisidem"
)

// showFind shows the form that finds a key, or goes to the key that it names.
func (c *Console) showFind(v *visit) error {
	form := v.r.URL.Query()
	content := struct{ ID, Scope, Value, Problem string }{form.Get("id"), form.Get("scope"), form.Get("value"), ""}
	var key *redisidem.KeyInfo
	var err error
	switch {
	case content.ID != "":
		key, err = c.inspector.Find(v.r.Context(), content.ID)
	case content.Scope != "" || content.Value != "":
		key, err = c.inspector.Get(v.r.Context(), content.Scope, content.Value)
	default:
		return v.render(http.StatusOK, "find", "Find", content)
	}
	if err != nil {
		p := explain(err)
		if p.status >= http.StatusInternalServerError {
			return err
		}
		content.Problem = p.text
		return v.render(p.status, "find", "Find", content)
	}
	v.redirect(v.link("keys/"+key.ID, nil))
	return nil
}
