package main

import (
	"errors"
	"log/slog"
	"net/http"
	"reflect"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/console"
)

// gatewayConsole adds the console to the gateway's listener for operators.
type gatewayConsole struct {
	Console bool          `help:"Serve the console at /console/ of the admin listener."`
	Access  consoleAccess `embed:"" prefix:"console-"`
}

// adminServer returns the server for operators, with the console if it is wanted.
func (c *gatewayConsole) adminServer(admin http.Handler, listen string, service *redisidem.Service, log *slog.Logger) (*http.Server, error) {
	switch {
	case !c.Console && !reflect.ValueOf(c.Access).IsZero():
		return nil, errors.New("the flags that begin with --console- need --console")
	case !c.Console:
		return newServer(admin, log), nil
	case listen == "":
		return nil, errors.New("--console needs --admin-listen")
	}
	cfg, err := c.Access.config("console-", listen)
	if err != nil {
		return nil, err
	}
	cfg.Logger, cfg.Check = log, service.Check
	pages, err := console.New(redisidem.NewInspector(service), cfg)
	if err != nil {
		return nil, err
	}
	server := newServer(mount(pages, "/console", admin), log)
	server.RegisterOnShutdown(pages.Close)
	return server, nil
}
