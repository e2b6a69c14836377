package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// upset is what calls of one method get instead of being carried out, or other
// than the mock would answer. Calls are counted from the moment the file says so.
type upset struct {
	Method string `json:"method"`
	// By name, as RESOURCE_EXHAUSTED. With none of it the call is carried out.
	Code codes.Code `json:"code"`
	// What goes with the code.
	Message string `json:"message"`
	// A merge patch over the mock's answer, with the names of the protocol.
	Answer json.RawMessage `json:"answer"`
	// How long the call takes first.
	Milliseconds int64 `json:"milliseconds"`
	// Only the n-th of the calls that are meant, from 1; each of them when 0.
	Nth int `json:"nth"`
	// Only calls that have at least these fields.
	When map[string]any `json:"when"`

	met int
}

// next is the entry of the script that this call gets, or nil.
func (p *placing) next(method string, request any) *upset {
	for i := range p.config.Script {
		upset := &p.config.Script[i]
		if upset.Method != method || upset.When != nil && !within(upset.When, fields(request)) {
			continue
		}
		upset.met++
		if upset.Nth == 0 || upset.Nth == upset.met {
			return upset
		}
	}
	return nil
}

// within tells whether all that is wanted is there. Lists may go on.
func within(wanted, there any) bool {
	switch wanted := wanted.(type) {
	case map[string]any:
		object, ok := there.(map[string]any)
		for key, value := range wanted {
			ok = ok && within(value, object[key])
		}
		return ok
	case []any:
		list, ok := there.([]any)
		for i, value := range wanted {
			ok = ok && i < len(list) && within(value, list[i])
		}
		return ok
	}
	return fmt.Sprint(wanted) == fmt.Sprint(there)
}

// wait goes on when the caller has given up: what is slow is slow.
func (u *upset) wait() {
	if u != nil {
		time.Sleep(time.Duration(u.Milliseconds) * time.Millisecond)
	}
}

// refusal is nil when the call is to be carried out.
func (u *upset) refusal() error {
	if u == nil || u.Code == codes.OK {
		return nil
	}
	message := u.Message
	if message == "" {
		message = "as the script says of " + u.Method
	}
	return status.Error(u.Code, message)
}

// patched is the reply with the answer of the script laid over it.
func (u *upset) patched(reply any) (any, error) {
	message, ok := reply.(proto.Message)
	if u == nil || u.Answer == nil || !ok {
		return reply, nil
	}
	encoded, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
	if err != nil {
		return nil, err
	}
	var now, patch any
	if err := json.Unmarshal(encoded, &now); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(u.Answer, &patch); err != nil {
		return nil, err
	}
	if encoded, err = json.Marshal(merged(now, patch)); err != nil {
		return nil, err
	}
	fresh := message.ProtoReflect().New().Interface()
	return fresh, protojson.Unmarshal(encoded, fresh)
}

// merged is a JSON merge patch.
func merged(now, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	object, ok := now.(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	for key, value := range changes {
		if value == nil {
			delete(object, key)
		} else {
			object[key] = merged(object[key], value)
		}
	}
	return object
}

// digest tells secrets apart without telling them.
func digest(request any) string {
	carries, ok := request.(interface{ GetSecrets() map[string]string })
	if !ok || len(carries.GetSecrets()) == 0 {
		return ""
	}
	secrets := carries.GetSecrets()
	sum := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(secrets)) {
		fmt.Fprintf(sum, "%q=%q,", key, secrets[key])
	}
	return fmt.Sprintf("%x", sum.Sum(nil)[:6])
}

// ControllerGetCapabilities leaves out what the file says, and has what it adds.
func (p *placing) ControllerGetCapabilities(ctx context.Context, request *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	reply, err := p.Service.ControllerGetCapabilities(ctx, request)
	if err != nil {
		return nil, err
	}
	reply.Capabilities = slices.DeleteFunc(reply.Capabilities, func(has *csi.ControllerServiceCapability) bool {
		return slices.Contains(p.config.Without, has.GetRpc().GetType().String())
	})
	for _, name := range p.config.With {
		kind, known := csi.ControllerServiceCapability_RPC_Type_value[name]
		if !known {
			return nil, fmt.Errorf("no capability is called %s; there are %s", name,
				strings.Join(slices.Sorted(maps.Keys(csi.ControllerServiceCapability_RPC_Type_value)), ", "))
		}
		reply.Capabilities = append(reply.Capabilities, &csi.ControllerServiceCapability{Type: &csi.ControllerServiceCapability_Rpc{
			Rpc: &csi.ControllerServiceCapability_RPC{Type: csi.ControllerServiceCapability_RPC_Type(kind)},
		}})
	}
	return reply, nil
}
