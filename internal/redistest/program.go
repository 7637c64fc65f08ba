package redistest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Variable is the environment variable that names the server program to use instead of
// redis-server. Its value is a command line of one or more words, separated by spaces and without
// quoting. The command must replace itself with the server (exec). If the server were its child, it
// could not be paused or killed.
const Variable = "REDISIDEM_SERVER"

// ErrNoServer is returned by every function that starts a server when no server program is found.
var ErrNoServer = errors.New("redistest: no redis-server found: install one (Debian: apt-get install redis-server) or name one in " +
	Variable)

// Executable returns the words of the command that starts a server. The first word is a path. The
// error matches [ErrNoServer].
func Executable() ([]string, error) {
	words := strings.Fields(os.Getenv(Variable))
	if len(words) == 0 {
		words = []string{"redis-server"}
	}
	return resolve(words)
}

// Available returns nil if a server can be started. Otherwise it returns an error that matches
// [ErrNoServer].
func Available() error {
	_, err := Executable()
	return err
}

func resolve(words []string) ([]string, error) {
	path, err := exec.LookPath(words[0])
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrNoServer, err)
	}
	return append([]string{path}, words[1:]...), nil
}
