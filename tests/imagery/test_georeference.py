import logging

import numpy as np
import pytest
import rasterio
from affine import Affine
from fixture_types import MakeCard, Noise, WriteRaster
from hypothesis import given
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC

from geo_retina.errors import GeoreferenceError, GsdError
from geo_retina.imagery.georeference import fit_control_points
from geo_retina.imagery.raster import open_raster
from geo_retina.imagery.read_options import ReadOptions
from geo_retina.imagery.source import open_chip_source


def control(transform: Affine, places: list[tuple[float, float]]) -> list[GroundControlPoint]:
    return [
        GroundControlPoint(col=col, row=row, x=x, y=y)
        for col, row in places
        for x, y in [transform @ (col, row)]
    ]


SQUARE = [(0.0, 0.0), (400.0, 0.0), (400.0, 300.0), (0.0, 300.0)]


@given(angle=st.floats(0, 360), size=st.floats(1e-6, 100), x=st.floats(-2e7, 2e7))
def test_exact_points_give_back_their_transform(angle: float, size: float, x: float) -> None:
    true = Affine.translation(x, 5e6) @ Affine.rotation(angle) @ Affine.scale(size, -size)
    fitted = fit_control_points(control(true, SQUARE), name="a.tif")
    corners = np.array([true @ place for place in SQUARE])
    np.testing.assert_allclose([fitted @ place for place in SQUARE], corners, atol=size * 1e-2)


def test_residuals_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    points = control(Affine(0.1, 0, 5e5, 0, -0.1, 5e6), SQUARE)
    points[0].x += 0.1
    with caplog.at_level(logging.WARNING):
        fit_control_points(points, name="a.tif")
    assert "4 ground control points; the affine fit is off by 0.25 pixels" in caplog.text


def test_crooked_points_are_refused() -> None:
    points = control(Affine(0.1, 0, 5e5, 0, -0.1, 5e6), SQUARE)
    points[0].x += 2
    with pytest.raises(GeoreferenceError, match=r"up to 5.1 pixels.*gdalwarp -tps"):
        fit_control_points(points, name="a.tif")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_points_that_are_not_finite_are_refused(value: float) -> None:
    points = control(Affine(0.1, 0, 5e5, 0, -0.1, 5e6), SQUARE)
    points[0].x = value
    with pytest.raises(GeoreferenceError, match=r"not finite.*gdalwarp -tps"):
        fit_control_points(points, name="a.tif")


def test_one_bad_point_among_many_good_ones_is_refused() -> None:
    true = Affine(0.1, 0, 5e5, 0, -0.1, 5e6)
    places = [(float(col), float(row)) for col in range(0, 500, 100) for row in range(0, 400, 100)]
    points = control(true, places)
    fit_control_points(points, name="a.tif")
    points[7].x += 0.5  # 5 pixels, which 20 points make little of on the mean
    with pytest.raises(GeoreferenceError, match=r"up to 4\.\d pixels off"):
        fit_control_points(points, name="a.tif")


@pytest.mark.parametrize("places", [SQUARE[:2], [(0.0, 0.0), (1.0, 1.0), (2.0, 2.0)]])
def test_points_on_a_line_are_refused(places: list[tuple[float, float]]) -> None:
    with pytest.raises(GeoreferenceError, match=r"three that are not on one line"):
        fit_control_points(control(Affine.identity(), places), name="a.tif")


def test_no_georeference_opens_but_is_not_used_unasked(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    path = write_raster("a.tif", noise(3, 9, 8), crs=None)
    with open_raster(path) as raster:
        assert not raster.has_georeference
        assert raster.grid.crs is None
        assert raster.grid.transform == Affine.identity()
        with pytest.raises(GeoreferenceError, match=r"--pixel-coordinates"):
            open_chip_source(raster, make_card())
        source = open_chip_source(raster, make_card(), ReadOptions(pixel_coordinates=True))
        assert source.grid == raster.grid


def test_gsd_of_pixel_coordinates_can_be_stated(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    with open_raster(write_raster("a.tif", noise(3, 90, 80), crs=None)) as raster:
        source = open_chip_source(
            raster, make_card(), ReadOptions(pixel_coordinates=True, gsd_m=0.05)
        )
        assert (source.grid.width, source.grid.height) == (40, 45)
        assert source.grid.transform @ (40, 45) == (80, 90)
        with pytest.raises(GsdError, match=r"--gsd"):
            open_chip_source(raster, make_card(), ReadOptions(pixel_coordinates=True, gsd_m=0))


def test_transform_without_crs_can_be_given_one(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    transform = Affine(0.1, 0, 5e5, 0, -0.1, 5e6)
    path = write_raster("a.tif", noise(3, 9, 8), crs=None, transform=transform)
    with open_raster(path) as raster:
        assert raster.grid.transform == Affine.identity()
        with pytest.raises(GeoreferenceError, match=r"no CRS.*--raster-crs.*--pixel-coordinates"):
            open_chip_source(raster, make_card())
    with open_raster(path, crs="EPSG:32633") as raster:
        assert raster.grid.transform == transform
        assert raster.grid.crs.to_epsg() == 32633


def test_stated_crs_may_not_contradict_the_file(write_raster: WriteRaster, noise: Noise) -> None:
    path = write_raster("a.tif", noise(3, 9, 8))
    with open_raster(path, crs="EPSG:32633") as raster:
        assert raster.has_georeference
    with pytest.raises(GeoreferenceError, match=r"says its CRS is WGS 84 / UTM zone 33N"):
        open_raster(path, crs="EPSG:32634")
    with pytest.raises(GeoreferenceError, match=r"is not a CRS"):
        open_raster(write_raster("b.tif", noise(3, 9, 8)), crs="Mars, somewhere")


def test_crs_without_transform_is_refused(write_raster: WriteRaster, noise: Noise) -> None:
    path = write_raster("a.tif", noise(3, 9, 8), transform=Affine.identity())
    with pytest.raises(GeoreferenceError, match=r"no transform.*world file"):
        open_raster(path)
    with open_raster(path, pixel_coordinates=True) as raster:
        assert not raster.has_georeference


def test_gcps_without_crs_are_refused(write_raster: WriteRaster, noise: Noise) -> None:
    points = control(Affine(0.1, 0, 5e5, 0, -0.1, 5e6), [(0, 0), (8, 0), (8, 9), (0, 9)])
    path = write_raster("a.tif", noise(3, 9, 8), crs=CRS(), gcps=points)
    with pytest.raises(GeoreferenceError, match=r"control points but no CRS"):
        open_raster(path)
    with open_raster(path, crs="EPSG:32633") as raster:
        np.testing.assert_allclose(raster.grid.transform @ (8, 9), (500_000.8, 4_999_999.1))
        assert raster.grid.crs.to_epsg() == 32633
    placed = write_raster("b.tif", noise(3, 9, 8), gcps=points)
    with open_raster(placed, crs="EPSG:32633") as raster:
        assert raster.grid.crs.to_epsg() == 32633
    with pytest.raises(GeoreferenceError, match=r"says its CRS is WGS 84 / UTM zone 33N"):
        open_raster(placed, crs="EPSG:32634")


def test_geolocation_arrays_alone_are_refused_with_the_step_to_take(
    write_raster: WriteRaster, noise: Noise
) -> None:
    path = write_raster("a.tif", noise(3, 9, 8), crs=None, transform=Affine.identity())
    with rasterio.open(path, "r+") as raster:
        raster.update_tags(ns="GEOLOCATION", X_DATASET="lon.tif", Y_DATASET="lat.tif")
    with pytest.raises(GeoreferenceError, match=r"geolocation arrays only.*gdalwarp -geoloc"):
        open_raster(path)


def test_rpcs_alone_are_refused_with_the_step_to_take(
    write_raster: WriteRaster, noise: Noise
) -> None:
    path = write_raster("a.tif", noise(3, 9, 8), crs=None)
    line = [0.0, 0.0, 1.0, *[0.0] * 17]
    unit = [1.0, *[0.0] * 19]
    rpc = RPC(
        height_off=0, height_scale=500, lat_off=50, lat_scale=0.1, line_den_coeff=unit,
        line_num_coeff=line, line_off=4, line_scale=4, long_off=13, long_scale=0.1,
        samp_den_coeff=unit, samp_num_coeff=[0.0, 1.0, *[0.0] * 18], samp_off=4, samp_scale=4,
    )  # fmt: skip
    with rasterio.open(path, "r+") as file:
        file.rpcs = rpc
    with pytest.raises(GeoreferenceError, match=r"gdalwarp -rpc"):
        open_raster(path)


def test_heights_are_dropped_from_the_crs(write_raster: WriteRaster, noise: Noise) -> None:
    with open_raster(write_raster("a.tif", noise(3, 9, 8), crs="EPSG:25832+5783")) as raster:
        assert raster.grid.crs.to_epsg() == 25832
    path = write_raster(
        "b.tif", noise(3, 9, 8), crs="EPSG:4979", transform=Affine(1e-6, 0, 13, 0, -1e-6, 52)
    )
    with open_raster(path) as raster:
        assert len(raster.grid.crs.axis_info) == 2


def test_local_crs_needs_a_stated_gsd(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    path = write_raster("a.tif", noise(3, 9, 8), crs='LOCAL_CS["site",UNIT["metre",1]]')
    with open_raster(path) as raster, pytest.raises(GeoreferenceError, match=r"local CRS.*--gsd"):
        open_chip_source(raster, make_card())


def test_stated_gsd_may_not_contradict_the_file(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    path = write_raster("a.tif", noise(3, 9, 8))
    with open_raster(path) as raster, pytest.raises(GsdError, match=r"--gsd 0.2"):
        open_chip_source(raster, make_card(), ReadOptions(gsd_m=0.2))


def test_coarse_rasters_are_refused_unless_allowed(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    with open_raster(write_raster("a.tif", noise(3, 9, 8), gsd=0.5)) as raster:
        with pytest.raises(GsdError, match=r"0.5 m per pixel.*up to 0.3 m.*--any-gsd"):
            open_chip_source(raster, make_card())
        source = open_chip_source(raster, make_card(), ReadOptions(any_gsd=True))
        assert (source.grid.width, source.grid.height) == (40, 45)


def test_coarsest_gsd_itself_is_fine(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    """A projection's scale error of some parts in ten thousand is no reason to refuse."""
    with open_raster(write_raster("a.tif", noise(3, 9, 8), gsd=0.3)) as raster:
        assert open_chip_source(raster, make_card()).is_resampled


def test_absurdly_fine_rasters_are_refused(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    path = write_raster("a.tif", noise(3, 9, 8), gsd=1e-4)
    with open_raster(path) as raster, pytest.raises(GsdError, match=r"check the raster's CRS"):
        open_chip_source(raster, make_card())


def test_absurdly_coarse_rasters_are_refused(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard
) -> None:
    path = write_raster("a.tif", noise(3, 9, 8), gsd=1000)
    with open_raster(path) as raster, pytest.raises(GsdError, match=r"no object of it"):
        open_chip_source(raster, make_card(), ReadOptions(any_gsd=True))


def test_uneven_gsd_is_warned_of(
    write_raster: WriteRaster, noise: Noise, make_card: MakeCard, caplog: pytest.LogCaptureFixture
) -> None:
    tall = Affine(1, 0, 13, 0, -1, 69)
    path = write_raster("a.tif", noise(3, 9, 8), crs="EPSG:4326", transform=tall)
    card = make_card(gsd_m=100_000, coarsest_gsd_m=200_000)
    with open_raster(path) as raster, caplog.at_level(logging.WARNING):
        open_chip_source(raster, card)
    assert "varies by a factor" in caplog.text
