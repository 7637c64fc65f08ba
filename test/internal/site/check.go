package main

import (
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
)

// first is the page from which all others can be reached.
const first = "index.html"

// report is the result of a check.
type report struct {
	pages, links int
	problems     []string
}

// check reads all pages of a folder and follows their links. It returns an error if the folder
// cannot be read or has no first page.
func check(folder string) (report, error) {
	root := os.DirFS(folder)
	pages := make(map[string]page)
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Ext(name) != ".html" {
			return err
		}
		pages[name], err = readPage(root, name)
		return err
	})
	if err != nil {
		return report{}, err
	}
	if _, ok := pages[first]; !ok {
		return report{}, fmt.Errorf("%s has no %s", folder, first)
	}
	r := report{pages: len(pages)}
	problem := func(name, format string, a ...any) {
		r.problems = append(r.problems, name+": "+fmt.Sprintf(format, a...))
	}
	next := make(map[string][]string) // the pages that a page links to
	for name, p := range pages {
		for _, id := range p.repeated {
			problem(name, "the anchor #%s is there twice", id)
		}
		for _, link := range p.links {
			target, anchor, ok := resolve(name, link)
			if !ok {
				continue
			}
			r.links++
			switch to, known := pages[target]; {
			case known && anchor != "" && !to.anchors[anchor]:
				problem(name, "%s leads to no anchor of %s", link, target)
			case known:
				next[name] = append(next[name], target)
			default:
				if stat, err := fs.Stat(root, target); err != nil || stat.IsDir() {
					problem(name, "%s leads nowhere", link)
				}
			}
		}
	}
	reached := reach(next)
	for name := range pages {
		if !reached[name] {
			problem(name, "no path of links leads here from %s", first)
		}
	}
	slices.Sort(r.problems)
	return r, nil
}

// resolve returns the file and the anchor that a link of a page leads to, and false for another
// site. A folder stands for its index.html only on a server, so it stays a folder.
func resolve(name, link string) (target, anchor string, ok bool) {
	u, err := url.Parse(link)
	if err != nil {
		return link, "", true // leads nowhere
	}
	if u.IsAbs() || u.Host != "" {
		return "", "", false
	}
	if u.Path == "" {
		return name, u.Fragment, true
	}
	if strings.HasPrefix(u.Path, "/") {
		return link, "", true // a copy of the site in a folder does not have it
	}
	return path.Join(path.Dir(name), u.Path), u.Fragment, true
}

// reach returns the pages to which links lead from the first one.
func reach(next map[string][]string) map[string]bool {
	reached := map[string]bool{first: true}
	for queue := []string{first}; len(queue) > 0; queue = queue[1:] {
		for _, name := range next[queue[0]] {
			if !reached[name] {
				reached[name] = true
				queue = append(queue, name)
			}
		}
	}
	return reached
}
