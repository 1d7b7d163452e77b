package main

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/caly-dev/caly/internal/testkit/certtest"
)

func TestPreflight(t *testing.T) {
	files := fstest.MapFS{}
	for name, content := range map[string]string{
		"db/url":     "postgres://u:topsecret@db:5432/caly\n",
		"db/broken":  "postgres://u:p#topsecret@db/caly",
		"db/empty":   " \n",
		"token/long": "0123456789abcdef",
		"token/bad":  "topsecret",
		"tls/ca.crt": certtest.New(t).PEM,
		"tls/bad":    "topsecret",
		"folder/a/b": "x",
	} {
		files[name] = &fstest.MapFile{Data: []byte(content)}
	}
	for name, tc := range map[string]struct {
		required []string
		want     []string
	}{
		"all there": {required: []string{
			"database-url:db/url:database.ownerSecret",
			"token:token/long",
			"certificates:tls/ca.crt",
			"text:token/bad",
		}},
		"missing": {
			[]string{"database-url:db/url", "database-url:owner/url:database.ownerSecret", "text:smtp/password:mail.credentialsSecret"},
			[]string{
				"the installation cannot start: Secret owner, key url (database.ownerSecret): the Secret or the key does not exist",
				"; Secret smtp, key password (mail.credentialsSecret): the Secret or the key does not exist",
			},
		},
		"not a URL":       {[]string{"database-url:db/broken"}, []string{"the database URL cannot be read"}},
		"empty":           {[]string{"text:db/empty"}, []string{"Secret db, key empty (text): the key is empty"}},
		"a short token":   {[]string{"token:token/bad"}, []string{"less than 16 bytes"}},
		"no certificate":  {[]string{"certificates:tls/bad"}, []string{"no certificate in PEM form"}},
		"a folder":        {[]string{"text:folder/a"}, []string{"cannot be read"}},
		"outside":         {[]string{"text:../etc/passwd"}, []string{"is not KIND:SECRET/KEY"}},
		"an unknown kind": {[]string{"number:db/url"}, []string{"is not KIND:SECRET/KEY"}},
		"no key":          {[]string{"text:db"}, []string{"is not KIND:SECRET/KEY"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := preflight(files, tc.required)
			if (err == nil) != (len(tc.want) == 0) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "topsecret") {
					t.Errorf("got %q, want %q without secrets", err, want)
				}
			}
		})
	}
}

func TestPreflightCommand(t *testing.T) {
	checkFailure(t, execute(t, "preflight"), "--require is needed")
	checkFailure(t, execute(t, "preflight", "--directory="+t.TempDir(), "--require=text:db/url"), "Secret db, key url")
}
