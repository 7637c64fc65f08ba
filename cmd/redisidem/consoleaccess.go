package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/redisidem/redisidem/redisidem/console"
)

// consoleAccess says who may use a console, and for what.
type consoleAccess struct {
	Write         bool     `yaml:"write" help:"Let operators act on keys and read values. Needs one of the next three."`
	TokenFile     string   `yaml:"token_file" placeholder:"FILE" help:"Bearer tokens: lines of ROLE NAME TOKEN, where the role is viewer or operator."`
	BasicAuthFile string   `yaml:"basic_auth_file" placeholder:"FILE" help:"Passwords of HTTP basic authentication: lines of ROLE NAME PASSWORD."`
	TrustedHeader string   `yaml:"trusted_header" placeholder:"NAME" help:"Field with the user's name that an authenticating proxy sets, and drops from requests of its clients."`
	TrustedProxy  []string `yaml:"trusted_proxy" placeholder:"CIDR" help:"Addresses of the proxy of the trusted header, such as 10.0.0.0/8."`
	Operator      []string `yaml:"operator" placeholder:"NAME" help:"User of the trusted header who is an operator; the others are viewers. May be given several times."`
}

// authenticates reports whether users have to authenticate.
func (a *consoleAccess) authenticates() bool {
	return a.TokenFile+a.BasicAuthFile+a.TrustedHeader != ""
}

// config returns the configuration of a console that listens on an address. The names of the flags
// begin with prefix. It refuses a console that users beyond this machine could reach without
// authentication, and one that lets users act without a name.
func (a *consoleAccess) config(prefix, listen string) (cfg console.Config, err error) {
	if err := a.check(prefix, listen); err != nil {
		return cfg, err
	}
	cfg.Write = a.Write
	if !a.authenticates() {
		cfg.Authorize = console.Loopback
		return cfg, nil
	}
	var all []console.Authorize
	if a.TrustedHeader != "" {
		proxies := make([]netip.Prefix, 0, len(a.TrustedProxy))
		for _, text := range a.TrustedProxy {
			proxy, err := netip.ParsePrefix(text)
			if err != nil {
				return cfg, fmt.Errorf("--%strusted-proxy %s must be a prefix such as 10.0.0.0/8 or 10.0.0.7/32", prefix, text)
			}
			proxies = append(proxies, proxy.Masked())
		}
		all = append(all, (&console.TrustedHeader{Name: a.TrustedHeader, Proxies: proxies, Operators: a.Operator}).Authorize)
	}
	if a.BasicAuthFile != "" {
		users, err := readCredentials(a.BasicAuthFile)
		if err != nil {
			return cfg, fmt.Errorf("--%sbasic-auth-file: %w", prefix, err)
		}
		all = append(all, users.Basic)
		cfg.Challenge = `Basic realm="redisidem console", charset="UTF-8"`
	}
	if a.TokenFile != "" {
		users, err := readCredentials(a.TokenFile)
		if err != nil {
			return cfg, fmt.Errorf("--%stoken-file: %w", prefix, err)
		}
		all = append(all, users.Bearer)
		if cfg.Challenge == "" {
			cfg.Challenge = `Bearer realm="redisidem console"`
		}
	}
	cfg.Authorize = console.FirstOf(all...)
	return cfg, nil
}

// check returns an error for flags that do not fit together.
func (a *consoleAccess) check(prefix, listen string) error {
	methods := fmt.Sprintf("--%stoken-file, --%sbasic-auth-file or --%strusted-header", prefix, prefix, prefix)
	switch {
	case a.Write && !a.authenticates():
		return fmt.Errorf("--%swrite needs %s: the audit says who acted", prefix, methods)
	case !a.authenticates() && !isLoopback(listen):
		return fmt.Errorf("the console would be reachable at %s without authentication: give %s, or listen on 127.0.0.1", listen, methods)
	case a.TrustedHeader != "" && len(a.TrustedProxy) == 0:
		return fmt.Errorf("--%strusted-header needs --%strusted-proxy, or any client could set the field", prefix, prefix)
	case a.TrustedHeader == "" && len(a.TrustedProxy)+len(a.Operator) > 0:
		return fmt.Errorf("--%strusted-proxy and --%soperator need --%strusted-header", prefix, prefix, prefix)
	case strings.ContainsAny(a.TrustedHeader, " :\t"):
		return fmt.Errorf("--%strusted-header %q is not the name of a header field", prefix, a.TrustedHeader)
	case slices.Contains(a.Operator, ""):
		return fmt.Errorf("--%soperator must not be empty", prefix)
	}
	return nil
}

// isLoopback reports whether a listener is for this machine alone. Names other than localhost are
// not looked up.
func isLoopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen) // without a host, a listener has all addresses
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

// readCredentials reads the users of a file.
func readCredentials(name string) (_ *console.Credentials, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	users, err := console.ReadCredentials(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return users, nil
}

// mount returns a handler that serves the console under a path without a slash at its end, and
// everything else by another handler.
func mount(c http.Handler, path string, others http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", others)
	mux.Handle(path+"/", http.StripPrefix(path, c))
	return mux
}
