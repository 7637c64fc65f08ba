package main

type compareCommand struct{}
type reportCommand struct{}
