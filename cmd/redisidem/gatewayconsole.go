package main

import (
	"errors"
	"log/slog"
	"net/http"
	"reflect"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/console"
)

// consoleField is the field of the configuration file with the settings of the console, and the
// flag that serves it.
const consoleField = "console"

// gatewayConsole adds the console to the gateway's listener for operators.
type gatewayConsole struct {
	Enabled       bool `yaml:"enabled" name:"console" help:"Serve the console at /console/ of the admin listener."`
	consoleAccess `yaml:",inline" prefix:"console-"`
}

// config returns the configuration of the console. It reports false if none is wanted.
func (c *gatewayConsole) config(listen string) (cfg console.Config, wanted bool, err error) {
	switch {
	case !c.Enabled && !reflect.ValueOf(c.consoleAccess).IsZero():
		return cfg, false, errors.New("the flags that begin with --console- need --console")
	case !c.Enabled:
		return cfg, false, nil
	case listen == "":
		return cfg, false, errors.New("--console needs --admin-listen")
	}
	cfg, err = c.consoleAccess.config("console-", listen)
	return cfg, true, err
}

// adminServer returns the server for operators, with the console if it is wanted.
func (c *gatewayConsole) adminServer(
	admin http.Handler, listen string, service *redisidem.Service, activity *console.Activity, log *slog.Logger,
) (*http.Server, error) {
	cfg, wanted, err := c.config(listen)
	switch {
	case err != nil:
		return nil, err
	case !wanted:
		return newServer(admin, log), nil
	case c.TokenFile+c.BasicAuthFile != "" && !isLoopback(listen):
		log.Warn("secrets of operators are sent to --admin-listen without encryption: let it listen on loopback, behind a proxy with TLS")
	}
	cfg.Logger, cfg.Check, cfg.Activity = log, service.Check, activity
	pages, err := console.New(redisidem.NewInspector(service), cfg)
	if err != nil {
		return nil, err
	}
	server := newServer(mount(pages, "/console", admin), log)
	server.RegisterOnShutdown(pages.Close)
	return server, nil
}
