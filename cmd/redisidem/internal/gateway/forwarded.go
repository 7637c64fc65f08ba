package gateway

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pires/go-proxyproto"
)

// TrustedProxies are the networks of proxies in front of the gateway, whose word about a client
// counts. No networks trust no proxy.
type TrustedProxies []netip.Prefix

// ParseTrustedProxies parses networks such as 10.0.0.0/8, and single addresses.
func ParseTrustedProxies(texts []string) (TrustedProxies, error) {
	var trusted TrustedProxies
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			addr, err := netip.ParseAddr(text)
			if err != nil {
				return nil, fmt.Errorf("must be a network such as 10.0.0.0/8, or an address: %q", text)
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		if prefix.Masked() != prefix {
			return nil, fmt.Errorf("%s is not a network: use %s", prefix, prefix.Masked())
		}
		trusted = append(trusted, prefix)
	}
	return trusted, nil
}

// trust reports whether an address is that of a trusted proxy.
func (t TrustedProxies) trust(addr netip.Addr) bool {
	return slices.ContainsFunc(t, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// trustPeer reports whether a request comes from a trusted proxy.
func (t TrustedProxies) trustPeer(r *http.Request) bool {
	if len(t) == 0 {
		return false
	}
	peer, ok := parseNode(r.RemoteAddr)
	return ok && t.trust(peer)
}

// client returns the address of the client: that of the peer or, behind trusted proxies, the last
// one in X-Forwarded-For that is not a trusted proxy. Without that field, Forwarded is read.
func (t TrustedProxies) client(r *http.Request) string {
	peer, ok := parseNode(r.RemoteAddr)
	if !ok {
		return ""
	}
	if !t.trustPeer(r) {
		return peer.String()
	}
	chain := split(r.Header["X-Forwarded-For"])
	if chain == nil {
		for _, element := range split(r.Header["Forwarded"]) {
			chain = append(chain, forwardedFor(element))
		}
	}
	client := peer
	for _, node := range slices.Backward(chain) {
		addr, ok := parseNode(node)
		if !ok { // such as unknown: what is before it is known only to a proxy that is not trusted
			break
		}
		client = addr
		if !t.trust(addr) {
			break
		}
	}
	return client.String()
}

// split returns the elements of a field with commas between them.
func split(values []string) (elements []string) {
	for _, value := range values {
		for element := range strings.SplitSeq(value, ",") {
			elements = append(elements, strings.TrimSpace(element))
		}
	}
	return elements
}

// forwardedFor returns the node of an element of Forwarded (RFC 7239).
func forwardedFor(element string) string {
	for pair := range strings.SplitSeq(element, ";") {
		if name, value, ok := strings.Cut(strings.TrimSpace(pair), "="); ok && strings.EqualFold(name, "for") {
			return strings.Trim(value, `"`)
		}
	}
	return ""
}

// parseNode parses an address with or without a port and brackets.
func parseNode(node string) (netip.Addr, bool) {
	host, _, err := net.SplitHostPort(node)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(node, "["), "]")
	}
	addr, err := netip.ParseAddr(host)
	return addr.Unmap().WithZone(""), err == nil
}

// forward sets the fields that describe the client to the upstream. Those of a trusted proxy are
// continued. Those of other peers are replaced, and their Forwarded is removed.
func (t TrustedProxies) forward(r *httputil.ProxyRequest) {
	if !t.trustPeer(r.In) {
		r.SetXForwarded()
		return
	}
	r.Out.Header["X-Forwarded-For"] = slices.Clone(r.In.Header["X-Forwarded-For"])
	r.SetXForwarded()
	for _, name := range []string{"X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values := r.In.Header[name]; len(values) > 0 {
			r.Out.Header[name] = slices.Clone(values)
		}
	}
	if values := r.In.Header["Forwarded"]; len(values) > 0 {
		peer, _ := parseNode(r.In.RemoteAddr)
		node := peer.String()
		if peer.Is6() {
			node = `"[` + node + `]"`
		}
		r.Out.Header["Forwarded"] = []string{strings.Join(values, ", ") + ", for=" + node}
	}
}

// Listener returns a listener whose connections have the addresses of the PROXY protocol, versions
// 1 and 2, if a trusted proxy sends them. A header of another peer is not read, so that its request
// is refused. A connection whose header does not arrive within 10 s counts as one without a header:
// its peer is the proxy, and a later header is read as a request, which is refused.
func (t TrustedProxies) Listener(l net.Listener) net.Listener {
	return &proxyproto.Listener{
		Listener: l, ReadHeaderTimeout: 10 * time.Second,
		ConnPolicy: func(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
			if peer, ok := parseNode(o.Upstream.String()); ok && t.trust(peer) {
				return proxyproto.USE, nil
			}
			return proxyproto.SKIP, nil
		},
	}
}
