package v1alpha1_test

import (
	"maps"
	"strings"
)

// identityRules are those of recordings.webIdentity.
func identityRules() map[string]ruleCase {
	const field, secret = "spec.recordings.webIdentity", "spec.recordings.credentialsSecretRef"
	ok := refusal{}
	wantOne := refusal{"spec.recordings",
		"recordings needs exactly one of credentialsSecretRef and webIdentity"}
	with := func(change map[string]any) fields {
		spec := map[string]any{"serviceAccountName": "recordings"}
		maps.Copy(spec, change)
		return fields{secret: nil, field: spec}
	}
	wantURL := refusal{field + ".endpoint", "must be an http(s) URL of a host without a path"}
	wantSession := refusal{field + ".sessionDuration",
		"recordings.webIdentity.sessionDuration must be between 15m and 12h"}
	return map[string]ruleCase{
		"web identity":              {with(nil), ok},
		"web identity and a Secret": {fields{field: map[string]any{"serviceAccountName": "x"}}, wantOne},
		"neither of the two":        {fields{secret: nil}, wantOne},
		"no ServiceAccount": {fields{secret: nil, field: map[string]any{}},
			refusal{field + ".serviceAccountName", "Required value"}},
		"ServiceAccount elsewhere": {with(map[string]any{"serviceAccountName": "other/x"}),
			refusal{field + ".serviceAccountName", "should match"}},
		"a role":          {with(map[string]any{"roleARN": "arn:aws:iam::123456789012:role/a/b"}), ok},
		"a role of MinIO": {with(map[string]any{"roleARN": "arn:minio:iam:::role/idp-7f3a"}), ok},
		"a role with a line break": {with(map[string]any{"roleARN": "arn:aws:iam::123456789012:role/a\nb"}),
			refusal{field + ".roleARN", "should match"}},
		"a short role": {with(map[string]any{"roleARN": "arn:x"}), refusal{field + ".roleARN",
			"at least 20"}},
		"an STS with a slash":      {with(map[string]any{"endpoint": "https://sts.example/"}), ok},
		"an STS with a path":       {with(map[string]any{"endpoint": "https://sts.example/path"}), wantURL},
		"an STS with a query":      {with(map[string]any{"endpoint": "https://sts.example/?a=b"}), wantURL},
		"an STS of another scheme": {with(map[string]any{"endpoint": "ftp://sts.example"}), wantURL},
		"an STS with credentials": {with(map[string]any{"endpoint": "https://a:b@sts.example"}),
			refusal{field + ".endpoint", "must not carry credentials"}},
		"an audience with a blank": {with(map[string]any{"audience": "a b"}), refusal{field + ".audience",
			"should match"}},
		"a long audience": {with(map[string]any{"audience": strings.Repeat("a", 256)}),
			refusal{field + ".audience", "255"}},
		"shortest session":    {with(map[string]any{"sessionDuration": "15m"}), ok},
		"longest session":     {with(map[string]any{"sessionDuration": "12h"}), ok},
		"too short a session": {with(map[string]any{"sessionDuration": "14m59s"}), wantSession},
		"too long a session":  {with(map[string]any{"sessionDuration": "12h1s"}), wantSession},
	}
}
