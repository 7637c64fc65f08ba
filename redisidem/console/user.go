package console

import "net/http"

// Role is what a user may do.
type Role int

// The roles, from fewer rights to more.
const (
	// RoleViewer may see all pages, without the values that the application has stored.
	RoleViewer Role = iota + 1
	// RoleOperator may also act on keys and read values, if [Config.Write] is set.
	RoleOperator
)

// String returns the role in lower case, or "invalid" for any other value.
func (r Role) String() string {
	switch r {
	case RoleViewer:
		return "viewer"
	case RoleOperator:
		return "operator"
	}
	return "invalid"
}

// User is who sent a request.
type User struct {
	// Name is the actor in the audit, in at most 64 bytes. A user without a name may not act,
	// whatever the role.
	Name string
	// Role is what the user may do. With the zero Role, the user is known and may do nothing.
	Role Role
}

// Authorize identifies who sent a request. It reports false if the request has no credentials, or
// none that are valid. It is called for each request, by several goroutines at a time.
type Authorize func(*http.Request) (User, bool)

// FirstOf returns an Authorize that asks each of several in their order, and returns the first user
// that one of them finds.
func FirstOf(all ...Authorize) Authorize {
	return func(r *http.Request) (User, bool) {
		for _, authorize := range all {
			if u, ok := authorize(r); ok {
				return u, true
			}
		}
		return User{}, false
	}
}
