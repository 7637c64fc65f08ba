package console

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Loopback is an [Authorize] without credentials, for a listener on loopback: every user of this
// machine is a viewer without a name, and cannot act. A request must come from a loopback address,
// and its Host must be localhost or a loopback address. The pages of a site whose name was pointed
// to this machine therefore cannot read the console. A request with fields that proxies add (Via,
// Forwarded, X-Forwarded-For and the like) is refused, since a proxy on this machine may serve
// others.
func Loopback(r *http.Request) (User, bool) {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !from.Addr().Unmap().IsLoopback() || !isLoopbackHost(r.Host) || isForwarded(r.Header) {
		return User{}, false
	}
	return User{Role: RoleViewer}, true
}

// isForwarded reports whether a header has fields that proxies add.
func isForwarded(h http.Header) bool {
	for name := range h {
		if name == "Via" || name == "Forwarded" || name == "X-Real-Ip" || strings.HasPrefix(name, "X-Forwarded-") {
			return true
		}
	}
	return false
}

// isLoopbackHost reports whether a Host, with a port or without, is this machine.
func isLoopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	} else if n := len(host); n > 2 && host[0] == '[' && host[n-1] == ']' {
		host = host[1 : n-1]
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}
