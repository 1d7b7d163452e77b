package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestNoticesCoverThePrograms checks the committed file against the packages that the programs import today.
func TestNoticesCoverThePrograms(t *testing.T) {
	t.Chdir("../..")
	var got bytes.Buffer
	if err := run(&got, []string{"./cmd/caly", "./cmd/caly-upload"}); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("THIRD_PARTY_NOTICES")
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Error("THIRD_PARTY_NOTICES is stale; run 'make generate' and commit it")
	}
	for _, name := range []string{
		"The Go standard library and runtime: LICENSE",
		"github.com/jackc/pgx/v5: LICENSE",
		"github.com/minio/minio-go/v7: NOTICE",
		"k8s.io/utils: third_party/forked/golang/btree/LICENSE",
	} {
		if !strings.Contains(got.String(), "\n"+name+"\n") {
			t.Errorf("the notices lack %q", name)
		}
	}
}

func TestCollectReadsLicences(t *testing.T) {
	tests := map[string]struct {
		files   map[string]string
		want    map[string]string
		wantErr string
	}{
		"no licence": {
			files:   map[string]string{"README.md": "text"},
			wantErr: "module example.com/m v1.0.0 has no licence file",
		},
		"a licence at the root": {
			files: map[string]string{"LICENSE": "terms\n"},
			want:  map[string]string{"LICENSE": "terms"},
		},
		"a licence next to copied code": {
			files: map[string]string{"LICENSE": "terms", "a/LICENSE.txt": "other\r\nterms  \n"},
			want:  map[string]string{"LICENSE": "terms", "a/LICENSE.txt": "other\nterms"},
		},
		"a notice and a folder of licences": {
			files: map[string]string{"NOTICE": "notice", "LICENSES/MIT.txt": "mit", "LICENSES/old/BSD": "bsd"},
			want:  map[string]string{"NOTICE": "notice", "LICENSES/MIT.txt": "mit", "LICENSES/old/BSD": "bsd"},
		},
		"code about licences": {
			files: map[string]string{"COPYING": "terms", "license.go": "package m", "a/b/notice_test.go": "package b"},
			want:  map[string]string{"COPYING": "terms"},
		},
		"a licence of a package that is not imported": {
			files: map[string]string{"LICENSE": "terms", "other/LICENSE": "other"},
			want:  map[string]string{"LICENSE": "terms"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			tt.files["a/b/code.go"] = "package b"
			for file, content := range tt.files {
				path := filepath.Join(root, filepath.FromSlash(file))
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			components := map[string]*component{}
			err := collect(components, []goPackage{packageOf(root, "a/b")})
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("error %v, want one with %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, components["example.com/m"].files); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

// packageOf returns a package in a folder of module example.com/m.
func packageOf(root, folder string) goPackage {
	p := goPackage{Dir: filepath.Join(root, filepath.FromSlash(folder))}
	p.Module = &module{Path: "example.com/m", Version: "v1.0.0", Dir: root}
	return p
}

func TestEqualTextsAreWrittenOnce(t *testing.T) {
	var got bytes.Buffer
	err := write(&got, []*component{
		{
			name:    "example.com/a",
			version: "v1.0.0",
			files:   map[string]string{"LICENSE": "terms", "NOTICE": "notice of a"},
		},
		{name: "example.com/b", version: "v2.0.0", files: map[string]string{"COPYING": "terms", "NOTICE": ""}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if count := strings.Count(got.String(), "\nterms\n"); count != 1 {
		t.Errorf("the text is written %d times, want once", count)
	}
	for _, want := range []string{
		"  example.com/b v2.0.0\n",
		"example.com/a: LICENSE\nexample.com/b: COPYING\n",
		"notice of a\n",
	} {
		if !strings.Contains(got.String(), want) {
			t.Errorf("the notices lack %q:\n%s", want, got.String())
		}
	}
}
