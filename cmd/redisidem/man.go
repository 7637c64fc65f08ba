package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
)

// manCommand prints the manual page.
type manCommand struct{}

// Run prints the manual page of the whole command line.
func (manCommand) Run(line *kong.Context) error { return writeManual(os.Stdout, line.Model) }

// writeManual writes a page for man(1) with every command and flag of the command line.
func writeManual(to io.Writer, app *kong.Application) error {
	var page strings.Builder
	fmt.Fprintf(&page, ".TH %s 1\n.SH NAME\n%s \\- %s\n", strings.ToUpper(app.Name), app.Name, roff(app.Help))
	fmt.Fprintf(&page, ".SH SYNOPSIS\n.B %s\n.I command\n[\\fIflags\\fR]\n.SH COMMANDS\n", app.Name)
	for _, command := range app.Leaves(true) {
		fmt.Fprintf(&page, ".SS %s\n%s\n", roff(app.Name+" "+command.Summary()), roff(command.Help))
		for line := range strings.Lines(command.Detail) {
			if line = strings.TrimSpace(line); line == "" {
				page.WriteString(".PP\n")
			} else {
				page.WriteString(roff(line) + "\n")
			}
		}
		writeFlags(&page, command.Positional, command.Flags)
		if parent := command.Parent; parent != nil && parent.Type == kong.CommandNode {
			writeFlags(&page, nil, parent.Flags)
		}
	}
	page.WriteString(".SH EXIT STATUS\n0 if the command did what it says, 1 if not, 2 for a command line that cannot be understood, " +
		"lacks something or has a value out of its bounds, and 3 if the key does not exist.\n")
	_, err := io.WriteString(to, page.String())
	return err
}

// writeFlags writes what can follow a command.
func writeFlags(page *strings.Builder, positional []*kong.Positional, flags []*kong.Flag) {
	for _, arg := range positional {
		fmt.Fprintf(page, ".TP\n.I %s\n%s\n", roff(arg.Name), roff(arg.Help))
	}
	for _, flag := range flags {
		if flag.Hidden || flag.Name == "help" {
			continue
		}
		fmt.Fprintf(page, ".TP\n.B %s\n%s\n", roff(flag.String()), roff(flag.Help))
		if len(flag.Envs) > 0 {
			fmt.Fprintf(page, "Environment: %s\n", roff(strings.Join(flag.Envs, ", ")))
		}
	}
}

// roff returns a line of text for man: control characters of the format are text in it.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		return `\&` + text
	}
	return text
}
