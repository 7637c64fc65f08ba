package httpidem

import (
	"net/http"
	"reflect"
)

// redirects is the type of [http.RedirectHandler], which a mux also uses for its own redirects.
var redirects = reflect.TypeOf(http.RedirectHandler("/", http.StatusTemporaryRedirect))

// routed reports whether a handler may do work for a request. A mux that has no route for it, or
// redirects it, does not.
func routed(h http.Handler, r *http.Request) bool {
	mux, ok := h.(*http.ServeMux)
	if !ok {
		return reflect.TypeOf(h) != redirects
	}
	h, pattern := mux.Handler(r)
	return pattern != "" && routed(h, r)
}
