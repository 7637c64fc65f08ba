package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"golang.org/x/net/html"
)

// page is what a check needs of a page.
type page struct {
	links    []string        // to pages, scripts, styles and images
	anchors  map[string]bool // the values of id and name
	repeated []string        // the ids that are there twice
}

func readPage(root fs.FS, name string) (page, error) {
	file, err := root.Open(name)
	if err != nil {
		return page{}, err
	}
	defer func() { _ = file.Close() }()
	p, err := parsePage(file)
	if err != nil {
		return page{}, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

func parsePage(r io.Reader) (page, error) {
	p := page{anchors: make(map[string]bool)}
	for tokens := html.NewTokenizer(r); ; {
		kind := tokens.Next()
		if kind == html.ErrorToken {
			if err := tokens.Err(); !errors.Is(err, io.EOF) {
				return page{}, err
			}
			return p, nil
		}
		if kind == html.StartTagToken || kind == html.SelfClosingTagToken {
			p.add(tokens.Token())
		}
	}
}

func (p *page) add(tag html.Token) {
	for _, a := range tag.Attr {
		switch {
		case a.Key == "id":
			if p.anchors[a.Val] {
				p.repeated = append(p.repeated, a.Val)
			}
			p.anchors[a.Val] = true
		case a.Key == "name" && tag.Data == "a":
			p.anchors[a.Val] = true
		case a.Key == "href", a.Key == "src":
			p.links = append(p.links, a.Val)
		}
	}
}
