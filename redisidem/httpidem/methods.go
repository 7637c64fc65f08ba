package httpidem

import (
	"net/http"
	"slices"
	"strings"

	"github.com/redisidem/redisidem/internal/httptoken"
)

// defaultMethods returns the methods that are protected unless Config.Methods names others.
func defaultMethods() []string { return []string{http.MethodPost, http.MethodPatch} }

// covers reports whether requests with the method of r are protected.
func (m *Middleware) covers(r *http.Request) bool { return httptoken.Covers(m.cfg.Methods, r.Method) }

// registeredMethods are the methods of IANA's registry, without PRI, which is not a request.
var registeredMethods = strings.Fields(`
	ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT CONNECT COPY DELETE GET HEAD LABEL LINK LOCK MERGE MKACTIVITY MKCALENDAR
	MKCOL MKREDIRECTREF MKWORKSPACE MOVE OPTIONS ORDERPATCH PATCH POST PROPFIND PROPPATCH PUT QUERY REBIND REPORT SEARCH
	TRACE UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE UPDATEREDIRECTREF VERSION-CONTROL
`)

// IsRegisteredMethod reports whether a method, in upper or lower case, is in IANA's registry of
// HTTP methods. Use it for methods of a configuration file, in which a typing error would leave
// requests without protection. Config.Methods may have other methods.
func IsRegisteredMethod(method string) bool {
	return slices.Contains(registeredMethods, strings.ToUpper(method))
}
