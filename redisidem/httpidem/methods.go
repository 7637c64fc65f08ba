package httpidem

import (
	"net/http"

	"github.com/redisidem/redisidem/internal/httptoken"
)

// defaultMethods returns the methods that are protected unless Config.Methods names others.
func defaultMethods() []string { return []string{http.MethodPost, http.MethodPatch} }

// covers reports whether requests with the method of r are protected.
func (m *Middleware) covers(r *http.Request) bool { return httptoken.Covers(m.cfg.Methods, r.Method) }
