package main

import (
	"fmt"

	"github.com/alecthomas/kong"
	"github.com/posener/complete"
	"github.com/willabides/kongplete"

	"github.com/redisidem/redisidem/redisidem"
)

// completionCommand prints a script for a shell.
type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"The shell: bash, zsh or fish."`
}

// Help says where the script goes.
func (completionCommand) Help() string {
	return `Where each shell reads it:

* bash: in ~/.bashrc, source <(redisidem completion bash)

* zsh: in ~/.zshrc, source <(redisidem completion zsh)

* fish: redisidem completion fish > ~/.config/fish/completions/redisidem.fish

The shells run redisidem for the words, so it must be on the PATH. It does not ask Redis then.`
}

// completionScripts let a shell run the program with its line in COMP_LINE.
var completionScripts = map[string]string{
	"bash": `complete -o default -C redisidem redisidem
`,
	// zsh either reads this from a file _redisidem, as the function of that name, or sources it.
	"zsh": `#compdef redisidem

_redisidem() {
  local -a found
  found=(${(f)"$(COMP_LINE="${(j: :)words[1,CURRENT-1]} $PREFIX" redisidem)"})
  if (( $#found )); then
    compadd -- $found
  else
    _files
  fi
}

if [[ $funcstack[1] == _redisidem ]]; then
  _redisidem
else
  (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
  compdef _redisidem redisidem
fi
`,
	"fish": `function __complete_redisidem
    set -lx COMP_LINE (commandline -cp)
    test -z (commandline -ct)
    and set COMP_LINE "$COMP_LINE "
    redisidem
end
complete -c redisidem -a "(__complete_redisidem)"
`,
}

// Run prints the script.
func (c *completionCommand) Run() error {
	_, err := fmt.Print(completionScripts[c.Shell])
	return err
}

// completed prints the words that can follow, if a shell asks for them.
func completed(parser *kong.Kong) (done bool, status int) {
	states := make([]string, 0, len(redisidem.KeyStates()))
	for _, state := range redisidem.KeyStates() {
		states = append(states, state.String())
	}
	kongplete.Complete(parser, kongplete.WithPredictor("state", complete.PredictSet(states...)),
		kongplete.WithExitFunc(func(code int) { done, status = true, code }))
	return done, status
}
