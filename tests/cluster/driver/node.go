package main

import (
	"context"
	"maps"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
)

func (p *placing) GetPluginInfo(ctx context.Context, request *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	reply, err := p.Service.GetPluginInfo(ctx, request)
	if err == nil && p.config.Name != "" {
		reply.Name = p.config.Name
	}
	return reply, err
}

func (p *placing) NodeGetInfo(ctx context.Context, request *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	reply, err := p.Service.NodeGetInfo(ctx, request)
	if err != nil {
		return nil, err
	}
	if node := p.config.Node; node.ID != "" {
		reply.NodeId = node.ID
	}
	if labels := p.config.Node.Labels; labels != nil {
		reply.AccessibleTopology = &csi.Topology{Segments: labels}
	}
	if limit := p.config.Node.Limit; limit != 0 {
		reply.MaxVolumesPerNode = limit
	}
	return reply, nil
}

// here is the mock's id of a volume of this node.
func (p *placing) here(id string) string { return strings.TrimPrefix(id, p.prefix()) }

// attached has what the mock wants to see: no attacher runs here, and the
// CSIDriver says that none is needed.
func attached(context map[string]string) map[string]string {
	if context = maps.Clone(context); context == nil {
		context = map[string]string{}
	}
	context["device"] = "none"
	return context
}

func (p *placing) NodeStageVolume(ctx context.Context, request *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	request.VolumeId, request.PublishContext = p.here(request.VolumeId), attached(request.PublishContext)
	return p.Service.NodeStageVolume(ctx, request)
}

func (p *placing) NodePublishVolume(ctx context.Context, request *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	request.VolumeId, request.PublishContext = p.here(request.VolumeId), attached(request.PublishContext)
	return p.Service.NodePublishVolume(ctx, request)
}

func (p *placing) NodeUnpublishVolume(ctx context.Context, request *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	request.VolumeId = p.here(request.VolumeId)
	return p.Service.NodeUnpublishVolume(ctx, request)
}

func (p *placing) NodeUnstageVolume(ctx context.Context, request *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	request.VolumeId = p.here(request.VolumeId)
	return p.Service.NodeUnstageVolume(ctx, request)
}
