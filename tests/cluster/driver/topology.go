package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/kubernetes/test/e2e/storage/drivers/csi-test/mock/service"
)

// config is what -config holds. The file is read again at each call, so that a
// test can change it while the driver serves; what is left out of it is as the
// mock has it.
type config struct {
	// Instead of that of -name: a driver can be another one after a restart.
	Name string `json:"name"`
	// Where volumes can be. Without segments the driver knows no topology, with
	// some a volume is in the first one with room that the caller prefers.
	Segments []segment `json:"segments"`
	// What NodeGetInfo says.
	Node struct {
		ID     string            `json:"id"`
		Labels map[string]string `json:"labels"`
		// How many volumes there can be on it; without limit when 0.
		Limit int64 `json:"limit"`
	} `json:"node"`
	// Capabilities of the controller that the driver does not have, and has besides.
	Without []string `json:"without"`
	With    []string `json:"with"`
	Script  []upset  `json:"script"`
	Losses  losses   `json:"losses"`
}

type segment struct {
	Labels map[string]string `json:"labels"`
	// The room, in bytes and as a number of volumes; without limit when absent.
	Bytes   *int64 `json:"bytes"`
	Volumes *int   `json:"volumes"`
}

// where is what a volume that exists takes.
type where struct {
	labels map[string]string
	bytes  int64
}

// placing is the mock with segments, and with a script.
type placing struct {
	service.Service
	path   string
	read   []byte
	config config
	// By the mock's id.
	placed map[string]where
	// The id of each name.
	names map[string]string
}

func newPlacing(mock service.Service, path string) *placing {
	return &placing{Service: mock, path: path, placed: map[string]where{}, names: map[string]string{}}
}

// reload must be called before anything else is asked in a call.
func (p *placing) reload() error {
	if p.path == "" {
		return nil
	}
	now, err := os.ReadFile(p.path)
	if err != nil || bytes.Equal(now, p.read) {
		return err
	}
	fresh := config{}
	if err := json.Unmarshal(now, &fresh); err != nil {
		return fmt.Errorf("%s: %w", p.path, err)
	}
	p.read, p.config = now, fresh
	return nil
}

// terms gives them in the order in which they are to be tried.
func terms(requirement *csi.TopologyRequirement) []*csi.Topology {
	return append(append([]*csi.Topology{}, requirement.GetPreferred()...), requirement.GetRequisite()...)
}

// within tells whether a segment lies in a term: the term may name fewer keys.
func (s *segment) within(term *csi.Topology) bool {
	for key, value := range term.GetSegments() {
		if has, some := s.Labels[key]; !some || has != value {
			return false
		}
	}
	return true
}

// room is what a segment has left, in bytes.
func (p *placing) room(s *segment) int64 {
	left, slots := int64(math.MaxInt64), math.MaxInt
	if s.Bytes != nil {
		left = *s.Bytes
	}
	if s.Volumes != nil {
		slots = *s.Volumes
	}
	for _, volume := range p.placed {
		if maps.Equal(volume.labels, s.Labels) {
			left -= volume.bytes
			slots--
		}
	}
	if slots <= 0 {
		return 0
	}
	return max(left, 0)
}

func (p *placing) choose(request *csi.CreateVolumeRequest) (*segment, error) {
	wanted := terms(request.GetAccessibilityRequirements())
	if len(wanted) == 0 {
		wanted = []*csi.Topology{{}}
	}
	least := max(request.GetCapacityRange().GetRequiredBytes(), 1)
	for _, term := range wanted {
		for i := range p.config.Segments {
			if s := &p.config.Segments[i]; s.within(term) && p.room(s) >= least {
				return s, nil
			}
		}
	}
	return nil, status.Errorf(codes.ResourceExhausted, "no room for %d bytes in any of %v", least, wanted)
}

// prefix is what the ids of volumes start with: the mock counts them from 1 in
// each process, and a driver on each node means many processes.
func (p *placing) prefix() string {
	if p.config.Node.ID == "" {
		return ""
	}
	return p.config.Node.ID + "/"
}

func (p *placing) CreateVolume(ctx context.Context, request *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	reply, err := p.place(ctx, request)
	if err == nil {
		reply.Volume.VolumeId = p.prefix() + reply.Volume.VolumeId
		// The mock names the position of the source in its list, not its id.
		reply.Volume.ContentSource = request.GetVolumeContentSource()
	}
	return reply, err
}

func (p *placing) place(ctx context.Context, request *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if len(p.config.Segments) == 0 {
		return p.Service.CreateVolume(ctx, request)
	}
	place, exists := p.placed[p.names[request.GetName()]]
	if !exists {
		chosen, err := p.choose(request)
		if err != nil {
			return nil, err
		}
		place.labels = chosen.Labels
	}
	reply, err := p.Service.CreateVolume(ctx, request)
	if err != nil {
		return nil, err
	}
	volume := reply.GetVolume()
	place.bytes = volume.GetCapacityBytes()
	p.placed[volume.GetVolumeId()], p.names[request.GetName()] = place, volume.GetVolumeId()
	volume.AccessibleTopology = []*csi.Topology{{Segments: place.labels}}
	return reply, nil
}

func (p *placing) DeleteVolume(ctx context.Context, request *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	// That of another node stays what it is, an id that the mock does not know.
	id := p.here(request.GetVolumeId())
	reply, err := p.Service.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id})
	if err == nil {
		delete(p.placed, id)
	}
	return reply, err
}

func (p *placing) GetCapacity(ctx context.Context, request *csi.GetCapacityRequest) (*csi.GetCapacityResponse, error) {
	reply, err := p.Service.GetCapacity(ctx, request)
	if err != nil || len(p.config.Segments) == 0 {
		return reply, err
	}
	most := reply.AvailableCapacity
	reply.AvailableCapacity = 0
	for i := range p.config.Segments {
		if s := &p.config.Segments[i]; s.within(request.GetAccessibleTopology()) {
			reply.AvailableCapacity += min(p.room(s), most)
		}
	}
	return reply, nil
}

func (p *placing) GetPluginCapabilities(ctx context.Context, request *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	reply, err := p.Service.GetPluginCapabilities(ctx, request)
	if err == nil && len(p.config.Segments) > 0 {
		reply.Capabilities = append(reply.Capabilities, &csi.PluginCapability{Type: &csi.PluginCapability_Service_{
			Service: &csi.PluginCapability_Service{Type: csi.PluginCapability_Service_VOLUME_ACCESSIBILITY_CONSTRAINTS},
		}})
	}
	return reply, err
}
