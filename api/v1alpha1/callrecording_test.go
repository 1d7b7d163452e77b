package v1alpha1_test

import (
	"strings"
	"testing"

	"github.com/caly-dev/caly/internal/testkit/kubetest"
)

const minimalRecording = `
apiVersion: voice.caly.dev/v1alpha1
kind: CallRecording
metadata: {name: by-hand}
spec:
  tenantRef: {name: support}
  callSID: b6cf1d1c6ec8f9b1
  sourceURL: https://recordings.exotel.com/acme1/b6cf1d1c6ec8f9b1.mp3
`

func TestCallRecordingRules(t *testing.T) {
	ns := kubetest.Get(t).NewNamespace(t)
	ok := refusal{}
	const call, source, tenant = "spec.callSID", "spec.sourceURL", "spec.tenantRef.name"
	wantURL := refusal{source, "sourceURL must be an absolute http(s) URL"}
	wantNoCredentials := refusal{
		source,
		"sourceURL must not carry credentials: the Tenant's Exotel credentials are used",
	}
	for name, tc := range map[string]ruleCase{
		"minimal":                    {nil, ok},
		"no spec":                    {fields{"spec": nil}, refusal{"spec", "Required value"}},
		"no call":                    {fields{call: nil}, refusal{call, "Required value"}},
		"empty call":                 {fields{call: ""}, refusal{call, "at least 1"}},
		"call with a slash":          {fields{call: "a/../b"}, refusal{call, "should match"}},
		"call much too long":         {fields{call: strings.Repeat("a", 65)}, refusal{call, "64"}},
		"no tenant":                  {fields{"spec.tenantRef": nil}, refusal{"spec.tenantRef", "Required value"}},
		"tenant without a name":      {fields{"spec.tenantRef": map[string]any{}}, refusal{tenant, "Required value"}},
		"tenant with an empty name":  {fields{tenant: ""}, refusal{tenant, "at least 1"}},
		"tenant's name too long":     {fields{tenant: strings.Repeat("a", 41)}, refusal{tenant, "40"}},
		"no source":                  {fields{source: nil}, refusal{source, "Required value"}},
		"source over plain http":     {fields{source: "http://simulator.test:8080/a.mp3"}, ok},
		"source with a query":        {fields{source: "https://s3.test/a.mp3?X-Amz-Signature=1&user=a@b"}, ok},
		"source is a path":           {fields{source: "/a.mp3"}, wantURL},
		"source is a file":           {fields{source: "file:///etc/passwd"}, wantURL},
		"source without a host":      {fields{source: "https:///a.mp3"}, wantURL},
		"source with credentials":    {fields{source: "https://key:token@recordings.exotel.com/a.mp3"}, wantNoCredentials},
		"source with a user alone":   {fields{source: "https://key@recordings.exotel.com/a.mp3"}, wantNoCredentials},
		"source's scheme in capital": {fields{source: "HTTPS://key:token@recordings.exotel.com/a.mp3"}, wantNoCredentials},
		"source much too long":       {fields{source: "https://h/" + strings.Repeat("a", 2048)}, refusal{source, "2048"}},
	} {
		t.Run(name, func(t *testing.T) { tc.want.check(t, create(t, object(t, ns, minimalRecording, tc.set))) })
	}
}

func TestCallRecordingCannotBeChanged(t *testing.T) {
	ns := kubetest.Get(t).NewNamespace(t)
	changed := refusal{
		"spec",
		"spec of a CallRecording cannot be changed: apply a new CallRecording for another recording",
	}
	for name, tc := range map[string]ruleCase{
		"another call":   {fields{"spec.callSID": "another"}, changed},
		"another source": {fields{"spec.sourceURL": "https://recordings.exotel.com/acme1/another.mp3"}, changed},
		"another tenant": {fields{"spec.tenantRef.name": "another"}, changed},
		"the same":       {nil, refusal{}},
		"a retry":        {fields{"metadata.annotations": map[string]any{"voice.caly.dev/retry": "1"}}, refusal{}},
	} {
		t.Run(name, func(t *testing.T) {
			obj := object(t, ns, minimalRecording, nil)
			if err := create(t, obj); err != nil {
				t.Fatal(err)
			}
			again := object(t, ns, minimalRecording, tc.set)
			again.SetResourceVersion(obj.GetResourceVersion())
			tc.want.check(t, strict(t).Update(t.Context(), again))
		})
	}
}
