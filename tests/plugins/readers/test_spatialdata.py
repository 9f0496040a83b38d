"""SpatialData stores, where the extra is installed."""

from __future__ import annotations

import layouts
import numpy as np
import pytest
from stzoo.core.errors import DataError
from stzoo.core.io.read import inspect, read

spatialdata = pytest.importorskip("spatialdata", reason="needs the extra 'spatialdata'")


@pytest.fixture
def store(tmp_path):
    """Spots of Visium as circles in a frame that is half that of the image, and a multi-scale image."""
    from spatialdata.models import Image2DModel, ShapesModel, TableModel
    from spatialdata.transformations import Identity, Scale

    adata = layouts.annotated(image=False)
    place = adata.obsm.pop("spatial")
    halved = Scale([2.0, 2.0], axes=("x", "y"))
    shapes = ShapesModel.parse(place / 2, geometry=0, radius=20.0, transformations={"global": halved})
    adata.obs["region"] = "spots"
    adata.obs["region"] = adata.obs["region"].astype("category")
    adata.obs["instance"] = np.arange(adata.n_obs)
    table = TableModel.parse(adata, region="spots", region_key="region", instance_key="instance")
    picture = np.moveaxis(layouts.picture(700, 1500), -1, 0)
    image = Image2DModel.parse(
        picture, dims=("c", "y", "x"), scale_factors=[2], transformations={"global": Identity()}, c_coords=list("rgb")
    )
    data = spatialdata.SpatialData(images={"he": image}, shapes={"spots": shapes}, tables={"table": table})
    data.write(tmp_path / "s.zarr")
    return tmp_path / "s.zarr", place


def test_a_table_with_its_shapes_and_image(store):
    path, place = store
    section = read(path)
    assert (section.name, section.n_spots) == ("table", 24)
    np.testing.assert_allclose(section.pixels, place)
    assert section.mpp == pytest.approx(layouts.MPP, rel=1e-6)
    np.testing.assert_array_equal(section.require_slide().read(0, 0, 700, 1500), layouts.picture(700, 1500))
    assert inspect(path)["format"] == "spatialdata"


def test_a_damaged_store(store):
    path, _ = store
    for file in (path / "shapes").rglob("*.parquet"):
        file.write_bytes(b"PAR1")
    with pytest.raises(DataError) as raised:
        read(path)
    assert str(path) in str(raised.value)
