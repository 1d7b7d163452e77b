package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const profile = `mode: set
github.com/caly-dev/caly/a/x.go:3.1,5.2 4 0
github.com/caly-dev/caly/a/x.go:7.1,8.2 1 0
github.com/caly-dev/caly/b/y.go:1.1,2.2 10 1
github.com/caly-dev/caly/a/x.go:3.1,5.2 4 7
`

func TestParse(t *testing.T) {
	for name, tc := range map[string]struct {
		profile string
		want    []block
		wantErr string
	}{
		"two test binaries": {
			profile: profile,
			want: []block{
				{file: "a/x.go", first: 3, last: 5, statements: 4, covered: true},
				{file: "a/x.go", first: 7, last: 8, statements: 1},
				{file: "b/y.go", first: 1, last: 2, statements: 10, covered: true},
			},
		},
		"nothing":      {wantErr: "it does not begin with a mode"},
		"another file": {profile: "mode: set\nhello\n", wantErr: `line 2 is not one of a profile: "hello"`},
		"half of a block": {
			profile: "mode: set\na.go:3.1,5.2 4\n",
			wantErr: `line 2 is not one of a profile: "a.go:3.1,5.2 4"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parse(tc.profile)
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(block{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			checkError(t, err, tc.wantErr)
		})
	}
}

func TestExceptions(t *testing.T) {
	text := func(b block) (string, error) {
		if b.file == "a/x.go" {
			return "return errImpossible", nil
		}
		return "", errors.New("no such file")
	}
	for name, tc := range map[string]struct {
		list          string
		wantExplained []int // lines
		wantErr       string
	}{
		"none": {list: "# a comment\n\n"},
		"one":  {list: "a/x.go | errImpossible | the caller has checked it\n", wantExplained: []int{7}},
		"out of date": {
			list:    "a/x.go | errGone | x\n",
			wantErr: `a/x.go has no uncovered block with "errGone"; remove the line`,
		},
		"covered": {
			list:    "b/y.go | errImpossible | x\n",
			wantErr: `b/y.go has no uncovered block with "errImpossible"`,
		},
		"no reason": {list: "a/x.go | errImpossible\n", wantErr: "is not file | text | reason"},
	} {
		t.Run(name, func(t *testing.T) {
			blocks, err := parse(profile)
			if err != nil {
				t.Fatal(err)
			}
			all, err := parseExceptions(tc.list)
			if err == nil {
				blocks, err = except(blocks, all, text)
			}
			checkError(t, err, tc.wantErr)
			var got []int
			for _, b := range blocks {
				if b.explained {
					got = append(got, b.first)
				}
			}
			if diff := cmp.Diff(tc.wantExplained, got); diff != "" {
				t.Errorf("lines that are explained (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReport(t *testing.T) {
	blocks, err := parse(profile)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		areas    []area
		wantLine string
		wantErr  string
	}{
		"enough": {areas: []area{{"b", []string{"b"}}}, wantLine: "b     100.0 %  10          0          b"},
		"both": {
			areas:    []area{{"all", []string{"a", "b"}}},
			wantLine: "all   93.3 %   15          0          a b",
			wantErr:  "95 % of all",
		},
		"no profile": {
			areas:    []area{{"c", []string{"c"}}},
			wantLine: "c     0.0 %    0           0          c",
			wantErr:  "95 % of c",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			checkError(t, report(&out, tc.areas, blocks), tc.wantErr)
			if !strings.Contains(out.String(), tc.wantLine+"\n") {
				t.Errorf("it prints\n%s\nwant the line\n%s", &out, tc.wantLine)
			}
		})
	}
}

func checkError(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("error %v, want %q", err, want)
	}
}
