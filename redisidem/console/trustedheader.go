package console

import (
	"net/http"
	"net/netip"
	"slices"
)

// TrustedHeader identifies users by a header field that an authenticating proxy sets. The proxy
// must drop the field from the requests of its clients.
type TrustedHeader struct {
	// Name is the name of the field, such as X-Forwarded-User. Required.
	Name string
	// Proxies are the addresses of the proxy. The field of a request from another address is not
	// read. Empty means that no request is accepted.
	Proxies []netip.Prefix
	// Operators are the names of users with RoleOperator. All other users are viewers.
	Operators []string
}

// Authorize is an [Authorize]. It reports false for a request from another address, and for one
// that does not have the field exactly once and with a value.
func (h *TrustedHeader) Authorize(r *http.Request) (User, bool) {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !slices.ContainsFunc(h.Proxies, func(p netip.Prefix) bool { return p.Contains(from.Addr().Unmap()) }) {
		return User{}, false
	}
	values := r.Header.Values(h.Name)
	if len(values) != 1 || values[0] == "" {
		return User{}, false
	}
	u := User{Name: values[0], Role: RoleViewer}
	if slices.Contains(h.Operators, u.Name) {
		u.Role = RoleOperator
	}
	return u, true
}
