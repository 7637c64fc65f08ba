package canonicaljson

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestFormIsTheSameForTheSameContent(t *testing.T) {
	t.Parallel()
	for want, texts := range map[string][]string{
		`{"a":1,"b":[1,{"c":null,"d":""}]}`: {
			`{"a":1,"b":[1,{"c":null,"d":""}]}`, ` { "b" : [ 1 , { "d" : "" , "c" : null } ] , "a" : 1 } `,
			"{\"a\":1,\r\n\t\"b\":[1,{\"d\":\"\",\"c\":null}]}", `{"b":[1,{"d":"","c":null}],"\u0061":1}`,
		},
		`{"":0,"a":"ü","ä":"\u003c"}`:   {`{"ä":"<","a":"\u00fc","":0}`, `{"":0,"a":"ü","ä":"\u003c"}`},
		`12345678901234567890`:          {` 12345678901234567890`, "12345678901234567890\n"},
		`[1.0,1e2,-0]`:                  {`[1.0,1e2,-0]`, `[ 1.0, 1e2, -0 ]`},
		`{}`:                            {`{}`, `{ }`},
		`[[[[[[[[{"a":1,"b":2}]]]]]]]]`: {`[[[[[[[[{"b":2,"a":1}]]]]]]]]`, `[[[[[[[[{"a":1,"b":2}]]]]]]]]`},
		`[{"a":1},{"a":1}]`:             {`[{"a":1},{"a":1}]`, `[{"a":1}, {"a":1}]`},
		`{"a":{"z":1},"b":{"a":1}}`:     {`{"a":{"z":1},"b":{"a":1}}`, `{"b":{"a":1},"a":{"z":1}}`},
		`{"b":["c","a"],"c":"a"}`:       {`{"b":["c","a"],"c":"a"}`, `{"c":"a","b":["c","a"]}`},
	} {
		for _, text := range texts {
			if got := string(Form([]byte(text))); got != want {
				t.Errorf("the form of %s is %s, want %s", text, got, want)
			}
		}
	}
}

// TestAmbiguousTextStaysAsItIs has texts that two decoders may read in different ways.
func TestAmbiguousTextStaysAsItIs(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		``, ` `, `{`, `}`, `a b`, `{"b": 1`, `{"b":1}{"a":1}`, `{"b":1} x`, `{"a":1,"a":1}`, `{"a":1, "a":2}`, `{"b":1,"a":{"c":1,"c":2}}`,
		"{\"b\":\"\xff\", \"a\":1}", `{"b":"\ud800", "a":1}`, strings.Repeat("[", 101) + ` ` + strings.Repeat("]", 101), `[1 2]`, `{"b" 1}`,
	} {
		if got := string(Form([]byte(text))); got != text {
			t.Errorf("the form of %q is %q", text, got)
		}
	}
}

func TestCanonicalTextIsNotCopied(t *testing.T) {
	text := []byte(`{"a":{"b":[1,2.5,"x y"],"c":"d"},"e":null}`)
	if got := testing.AllocsPerRun(100, func() { Form(text) }); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

// FuzzForm checks the quick look against the decoder, and that a form has the content of its text.
func FuzzForm(f *testing.F) {
	for _, text := range []string{`{"a":1,"b":[{"c":"d"}]}`, `{"b":1,"a":2}`, `{"a":1,"a":2}`, `[":",{"x":",","y":"{"}]`, `"\u0061"`, ` 1`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		form := Form(text)
		value, err := Decode(text)
		if err != nil {
			if !bytes.Equal(form, text) {
				t.Fatalf("%q became %q", text, form)
			}
			return
		}
		if slow := Append(nil, value); !bytes.Equal(slow, form) {
			t.Fatalf("the form of %q is %q, want %q", text, form, slow)
		}
		if again := Form(form); !bytes.Equal(again, form) {
			t.Fatalf("the form of %q is %q", form, again)
		}
		var before, after any
		if json.Unmarshal(text, &before) == nil {
			if err := json.Unmarshal(form, &after); err != nil {
				t.Fatalf("the form of %q is %q: %v", text, form, err)
			}
			one, _ := json.Marshal(before)
			other, _ := json.Marshal(after)
			if !bytes.Equal(one, other) {
				t.Fatalf("the form of %q has another content: %q", text, form)
			}
		}
	})
}
