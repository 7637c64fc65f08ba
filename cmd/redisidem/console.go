package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/redisidem/redisidem/cmd/redisidem/internal/gateway"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/console"
)

// consoleCommand serves the console.
type consoleCommand struct {
	storeAccess
	consoleAccess
	answerFlags

	Listen     string        `default:"127.0.0.1:8082" help:"Address for operators. Other addresses than those of this machine need authentication."`
	PathPrefix string        `placeholder:"PATH" help:"Path of the console, such as /console, if it is not at the root. Not needed behind a proxy that strips it."`
	Check      bool          `help:"Show what the check command says, also without --write. It makes a key of its own, which needs the rights of a program."`
	Refresh    time.Duration `default:"5s" help:"How often an open overview is read."`
	Retention  time.Duration `default:"24h" help:"Retention that the programs configure. Acts need it."`
	TLSCert    string        `name:"tls-cert" placeholder:"FILE" help:"Certificate of the listener."`
	TLSKey     string        `name:"tls-key" placeholder:"FILE" help:"Private key of --tls-cert."`
	LogFormat  string        `enum:"text,json" default:"text" help:"Format of the log on standard error: text or json."`
}

// Run serves until ctx ends.
func (c *consoleCommand) Run(ctx context.Context) (err error) {
	if c.PathPrefix != "" && (!strings.HasPrefix(c.PathPrefix, "/") || strings.HasSuffix(c.PathPrefix, "/") || strings.ContainsAny(c.PathPrefix, "{} ")) {
		return fmt.Errorf("--path-prefix %q must begin with a slash, and must not end with one", c.PathPrefix)
	}
	cfg, err := c.config("", c.Listen)
	if err != nil {
		return err
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return errors.New("--tls-cert and --tls-key need each other")
	}
	if err := c.answerFlags.check(); err != nil {
		return err
	}
	c.writes = &c.answerFlags
	log := newLog(c.LogFormat)
	service, err := c.open(c.Retention)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, service.Close(context.WithoutCancel(ctx))) }()
	cfg.Refresh, cfg.Logger = c.Refresh, log
	if c.Write || c.Check {
		cfg.Check = service.Check
	}
	pages, err := console.New(redisidem.NewInspector(service), cfg)
	if err != nil {
		return err
	}
	defer pages.Close()
	var handler http.Handler = pages
	if c.PathPrefix != "" {
		handler = mount(pages, c.PathPrefix, http.NotFoundHandler())
	}
	server := newServer(handler, log)
	server.RegisterOnShutdown(pages.Close)
	listener, err := listen(ctx, c.Listen)
	if err != nil {
		return err
	}
	scheme := "http"
	if c.TLSCert != "" {
		settings, err := gateway.ServerTLS(c.TLSCert, c.TLSKey, "")
		if err != nil {
			return errors.Join(err, listener.Close())
		}
		listener, scheme = tls.NewListener(listener, settings), "https"
	} else if c.TokenFile+c.BasicAuthFile != "" && !isLoopback(c.Listen) {
		log.Warn("secrets are sent without encryption: give --tls-cert and --tls-key, or put a proxy with TLS in front")
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	log.Info("serving operators", "url", scheme+"://"+listener.Addr().String()+c.PathPrefix+"/", "write", c.Write)
	select {
	case err = <-failed:
		return err
	case <-ctx.Done():
	}
	const patience = 5 * time.Second
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return server.Shutdown(last)
}
