from run_stores import *
from storage.cube import write_cube
from storage.query import open_results
from storage import results, locations as L
import xarray as xr, numpy as np, time, collections
def show(label, c, n=40):
    k=collections.Counter(x.split()[0] for x in c)
    print("==",label, len(c), dict(k))
    for x in c[:n]: print("   ", x.replace("/specdyn-tests/","")[:200].split("/",1)[-1])
def test_x(s3_store, s3_server, tmp_path):
    d=s3_store
    shapes={f"l{i}":(300,256) for i in range(8)}
    ms=[]
    steps=range(40)
    for i in range(6):
        l=layout_of(run_id=f"r{i}", steps=steps, shapes=shapes); v=values_of(l,i)
        with s3_server.counted() as c: url=f"{d}/runs/hand/r{i}.zarr"; results.allocate(url,l)
        if i==0: show("allocate",c)
        with s3_server.counted() as c: results.allocate(url,l)
        if i==0: show("allocate again",c)
        b=l.blocks()
        with s3_server.counted() as c: results.write_block(url,l,b[0],part(l,v,b[0]))
        if i==0: show("block",c)
        for s in b[1:]: results.write_block(url,l,s,part(l,v,s))
        ms.append(Member(run_id=f"r{i}", url=url, hyperparameters=dict(weight_decay=[0.,1.,2.][i//2], seed=i%2)))
    u=d+"/sweeps/a.zarr"
    t=time.time()
    with s3_server.counted() as c: write_cube(u, ms, {})
    show("cube",c, 90); print(time.time()-t)
    show("cube of cube", [x for x in c if "sweeps" in x], 0)
    from conftest import forget_clients
    forget_clients()
    with s3_server.counted() as c: tree=open_results(u)
    show("open",c)
    with s3_server.counted() as c: xr.open_datatree(u, engine="zarr", storage_options=L.S3_OPTIONS)
    show("plain open",c)
    with s3_server.counted() as c: xr.open_zarr(u, group="layers", storage_options=L.S3_OPTIONS)
    show("plain open layers",c)
    with s3_server.counted() as c: ds=xr.open_zarr(u, group="layers")
    show("very plain open layers",c)
    with s3_server.counted() as c: ds.effective_rank.sel(run=ds.weight_decay==1.).load()
    show("q1 plain",c)
    with s3_server.counted() as c: ds.singular_value.sel(layer="l3", rank=slice(1,10)).load()
    show("q3 plain",c)
    ds=tree["layers"].ds
    with s3_server.counted() as c: ds.weight_decay.load()
    show("wd",c)
    with s3_server.counted() as c: ds.effective_rank.sel(run=ds.weight_decay==1.).load()
    show("q1",c)
    with s3_server.counted() as c: ds.effective_rank.groupby("weight_decay").mean().load()
    show("q2",c)
    with s3_server.counted() as c: ds.singular_value.sel(layer="l3", rank=slice(1,10)).load()
    show("q3",c)
    with s3_server.counted() as c: t2=open_results(ms[0].url)
    show("open run",c)
