package tenantconfig

import (
	"maps"
	"slices"
	"strings"
)

// ListSecretName is the name of the Secret with the list of the published tenant configs. Its existence means that the
// operator has compiled every Tenant once: a tenant whose config is not in the list does not exist.
const ListSecretName = "caly-tenant-configs" //nolint:gosec // a name

// ListKey is the key of the list in its Secret's data.
const ListKey = "names"

// EncodeList writes the names of Secrets, one a line.
func EncodeList(names map[string]struct{}) []byte {
	return []byte(strings.Join(slices.Sorted(maps.Keys(names)), "\n"))
}

// DecodeList reads what EncodeList wrote from a Secret's data. It returns nil if the data has no list.
func DecodeList(data map[string][]byte) map[string]struct{} {
	list, ok := data[ListKey]
	if !ok {
		return nil
	}
	names := map[string]struct{}{}
	for name := range strings.FieldsSeq(string(list)) {
		names[name] = struct{}{}
	}
	return names
}
