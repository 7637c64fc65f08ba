package httpidem

import "net/http"

// ScopeFunc returns the scope of a request's key: the name of the authenticated tenant, user or API
// client. Two callers with the same key share a response only if they have the same scope. The name
// must identify the caller for as long as keys are kept. Do not derive it from a value that the
// caller can choose, from a token, which changes and would be stored, or from an address, which
// callers share.
//
// It is called for each request before the key is looked up, so that an error keeps the stored
// response from a caller whose rights were withdrawn. An error is answered with 403. An empty name
// is a bug in the program and is answered with 500. It is called concurrently.
type ScopeFunc func(r *http.Request) (string, error)

// Unscoped is a [ScopeFunc] with one scope for all callers. A caller that knows or guesses the key
// of another caller gets its response. Use it only for an API with a single caller, or with
// responses that are public.
func Unscoped(*http.Request) (string, error) { return "httpidem/unscoped", nil }

// identify sets the scope of the request. If the scope function returns an error or an invalid
// name, it refuses the request and reports false.
func (x *keyedRequest) identify() bool {
	m := x.middleware
	scope, err := m.scope(x.r)
	switch {
	case err != nil:
		x.refuse(m.problem(ResultNoScope), err)
		return false
	case scope == "" || len(scope) > m.maxScopeBytes:
		err := invalid("scope", "must have 1 to %d bytes: %d", m.maxScopeBytes, len(scope))
		x.refuse(m.problem(ResultFailed), err)
		return false
	}
	x.scope = m.service.Scope(scope).Wait(m.cfg.Wait)
	return true
}
