// Package console is a web page for operators: it shows every key of a service and what happened to
// it, and lets operators act on stuck ones. It is a handler to mount in a program's own mux:
//
//	inspector := redisidem.NewInspector(service)
//	c, err := console.New(inspector, console.Config{Authorize: tokens.Bearer})
//	mux.Handle("/console/", http.StripPrefix("/console", c))
//
// All links are relative, so any prefix works, also one that a proxy strips.
//
// An [Activity] adds what this process does to the first page.
//
// # Rights
//
// [Config.Authorize] identifies who sent a request. A viewer sees all pages, without the values
// that the application has stored. An operator may also act on keys and read values, if
// [Config.Write] is set. Each of both asks for a reason, shows what it will hit, and is in the
// audit with the operator's name. Without Write the console sends Redis no command that changes
// anything, and a Redis user that may only read is enough.
//
// # Security
//
// Requests that a browser sends on behalf of another site are refused, with
// [http.CrossOriginProtection]. The pages have a strict Content-Security-Policy: nothing is loaded
// from elsewhere, and no script or style is inline. They cannot be framed and are not cached. The
// handler does no TLS and does not limit how often credentials may be tried.
package console
