package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Server is a server process with its own port and folder, which it keeps over restarts. Methods
// are safe for concurrent use.
type Server struct {
	setup setup
	words []string // the whole command
	ports []int    // the first is the one for clients
	dir   string

	mu      sync.Mutex
	process *process // the current one, or the last
	stopped bool
}

// setup describes how to start a server.
type setup struct {
	command []string // nil: the command from Executable
	under   []string // the program that runs the command, with its arguments; nil for none
	env     []string
	args    []string // from the user, after all others
	ports   int      // number of ports; 0 means 1
	// arguments returns the arguments for these ports in this folder. Nil means the arguments of a
	// standalone server.
	arguments func(ports []int, dir string) ([]string, error)
}

// Option changes how a server is started.
type Option func(*setup)

// Args adds arguments to the server's command line, as in Args("--maxmemory", "6mb"). They override
// the arguments of this package.
func Args(args ...string) Option { return func(s *setup) { s.args = append(s.args, args...) } }

// Env adds variables in the form "name=value" to the server's environment. The rest of the
// environment is that of this process.
func Env(variables ...string) Option { return func(s *setup) { s.env = append(s.env, variables...) } }

// Under runs the server under another program, which gets the server's command behind its own
// arguments, as in Under("valgrind", "--tool=callgrind"). The program must keep the process ID.
func Under(command ...string) Option { return func(s *setup) { s.under = command } }

// TLS makes a standalone server also listen for TLS, at [Server.TLSAddr], with these PEM files. The
// server requires a certificate from each client.
func TLS(certificate, key, authority string) Option {
	return func(s *setup) {
		s.ports = 2
		s.arguments = func(ports []int, dir string) ([]string, error) {
			args, err := standalone(ports, dir)
			return append(args, "--tls-port", fmt.Sprint(ports[1]), "--tls-cert-file", certificate, "--tls-key-file", key,
				"--tls-ca-cert-file", authority, "--tls-auth-clients", "yes"), err
		}
	}
}

// Start starts a standalone server and returns when it answers, usually within 20 ms. The caller
// must end it with Stop. The error matches [ErrNoServer] if no server program is found. Other
// errors contain the end of the server's log.
func Start(opts ...Option) (*Server, error) {
	var s setup
	for _, opt := range opts {
		opt(&s)
	}
	return start(s)
}

// errPortTaken is returned when another program has taken the port.
var errPortTaken = errors.New("port taken")

func start(cfg setup) (*Server, error) {
	if cfg.command == nil {
		command, err := Executable()
		if err != nil {
			return nil, err
		}
		cfg.command = command
	}
	const tries = 10
	for try := 1; ; try++ {
		s := &Server{setup: cfg}
		err := s.begin()
		if err == nil {
			return s, nil
		}
		s.Stop()
		if !errors.Is(err, errPortTaken) || try == tries {
			return nil, fmt.Errorf("redistest: start server: %w", err)
		}
	}
}

// begin reserves the server's ports and folder, and starts it.
func (s *Server) begin() (err error) {
	for range max(s.setup.ports, 1) {
		port, err := taken.take()
		if err != nil {
			return err
		}
		s.ports = append(s.ports, port)
	}
	if s.dir, err = os.MkdirTemp("", "redistest-*"); err != nil {
		return err
	}
	arguments := standalone
	if s.setup.arguments != nil {
		arguments = s.setup.arguments
	}
	args, err := arguments(s.ports, s.dir)
	if err != nil {
		return err
	}
	s.words = slices.Concat(s.setup.under, s.setup.command, args, s.setup.args)
	return s.run()
}

// standalone returns the arguments of a standalone server. Other kinds of servers add theirs.
func standalone(ports []int, dir string) ([]string, error) {
	return []string{
		"--port", fmt.Sprint(ports[0]), "--bind", loopback, "--dir", dir, "--daemonize", "no",
		"--save", "", "--appendonly", "no",
		// With these arguments a replica is in sync at once. With diskless synchronization the
		// master would first wait for more replicas, and then for an acknowledgement that the
		// replica sends once per second.
		"--repl-diskless-sync", "no", "--repl-ping-replica-period", "1",
		"--enable-debug-command", "yes",
	}, nil
}

// run starts the process and waits until it answers.
func (s *Server) run() error {
	p, err := launch(s.words, s.dir, s.setup.env, s.log())
	if err != nil {
		return err
	}
	s.process = p
	if err := s.awaitAnswer(); err != nil {
		p.kill()
		end := tail(s.log())
		if strings.Contains(end, "Address already in use") {
			err = errors.Join(errPortTaken, err)
		}
		return fmt.Errorf("%w; %s", err, end)
	}
	return nil
}

// awaitAnswer waits until this process, and not another one, serves the port.
func (s *Server) awaitAnswer() error {
	ended := false
	err := until(patience, 2*time.Millisecond, func() error {
		if ended = !s.process.running(); ended {
			return nil
		}
		return s.answer()
	})
	if ended {
		return errors.New("the server has ended")
	}
	return err
}

// answer returns nil when the server is up.
func (s *Server) answer() error {
	client := s.Client()
	defer func() { _ = client.Close() }()
	// Another process on the port may not answer at all.
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", s.Addr())
	if err != nil {
		return err // go-redis would log it
	}
	_ = conn.Close() // nothing was sent
	info, err := client.Info(ctx).Result()
	var refusal redis.Error
	switch {
	case errors.As(err, &refusal):
		return nil // an error reply, such as a demand for a password, is an answer
	case err != nil:
		return err
	case infoField(info, "process_id") != fmt.Sprint(s.process.pid()):
		return errPortTaken
	case infoField(info, "loading") == "1":
		return errors.New("still loading")
	}
	return nil
}

// Addr returns the server's address, host and port.
func (s *Server) Addr() string { return address(s.port()) }

// TLSAddr returns the TLS address of a server that was started with [TLS].
func (s *Server) TLSAddr() string { return address(s.ports[1]) }

func (s *Server) port() int { return s.ports[0] }

func (s *Server) log() string { return filepath.Join(s.dir, "log") }

// PID returns the process id of the server, or of its last process if it does not run.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process.pid()
}

// Dir returns the server's working folder, which exists until Stop.
func (s *Server) Dir() string { return s.dir }

// Client returns a client for inspecting the server. It does not retry. The caller must close it.
func (s *Server) Client() *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: s.Addr(), Protocol: 2, MaxRetries: -1, DialerRetries: 1, DialTimeout: time.Second, DisableIdentity: true,
		ContextTimeoutEnabled:    true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// Pause stops the server with SIGSTOP. The server keeps its connections and its memory, and accepts
// connections, but does not answer. Pause blocks until the process has stopped. On systems other
// than Linux it returns [errors.ErrUnsupported].
func (s *Server) Pause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.signal("pause", (*process).pause)
}

// Resume resumes a paused server. It then executes the requests that were sent in the meantime.
func (s *Server) Resume() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.signal("resume", (*process).resume)
}

func (s *Server) signal(name string, send func(*process) error) error {
	if err := send(s.process); err != nil {
		return fmt.Errorf("redistest: %s server: %w", name, err)
	}
	return nil
}

// Kill kills the server, paused or not, and blocks until the process has ended. Its port stays
// reserved and its folder remains, for Restart.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process.kill()
}

// Restart starts the server again with the same port, folder and arguments. It blocks until the
// server answers. It kills a running server first. Without persistence the server is then empty.
// After Stop, Restart returns an error.
func (s *Server) Restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return errors.New("redistest: restart of a stopped server")
	}
	s.process.kill()
	// Another process that checks whether the port is free holds it only for a moment.
	err := s.run()
	for range 3 {
		if !errors.Is(err, errPortTaken) {
			break
		}
		err = s.run()
	}
	if err != nil {
		return fmt.Errorf("redistest: restart server: %w", err)
	}
	return nil
}

// Stop kills a running server and removes its folder. It blocks until the process has ended. Later
// calls do nothing.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	s.stopped = true
	if s.process != nil {
		s.process.kill()
	}
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
	for _, port := range s.ports {
		taken.give(port)
	}
}

// ask sends one command over a separate connection.
func (s *Server) ask(args ...any) (any, error) {
	client := s.Client()
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	reply, err := client.Do(ctx, args...).Result()
	if err != nil {
		return nil, fmt.Errorf("%s: %v: %w", s.Addr(), args, err)
	}
	return reply, nil
}

// info returns the fields of one section of INFO.
func (s *Server) info(section string) (string, error) {
	reply, err := s.ask("INFO", section)
	text, _ := reply.(string)
	return text, err
}

// infoField returns a field of a text with one name:value pair on each line. It returns "" if the
// field is missing.
func infoField(text, name string) string {
	for line := range strings.Lines(text) {
		if key, value, found := strings.Cut(strings.TrimSpace(line), ":"); found && key == name {
			return value
		}
	}
	return ""
}
